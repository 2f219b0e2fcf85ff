//! Names to providers: a catalog of DataFusion's over [`Tables`], so that its planner sees exactly what the
//! host pinned.

use super::{Resolved, Tables, external, information};
use crate::sql;
use async_trait::async_trait;
use datafusion::catalog::{
    CatalogProvider, CatalogProviderList, MemoryCatalogProviderList, SchemaProvider, TableProvider,
};
use datafusion::common::{DataFusionError, Result};
use datafusion::datasource::ViewTable;
use datafusion::execution::SessionStateBuilder;
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::Statement as Parsed;
use datafusion::sql::sqlparser::ast::Ident;
use drumline_lake::TableName;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

/// The one catalog.
pub(crate) const CATALOG: &str = "lake";

/// Views nest at most so deep.
const MAX_VIEWS: usize = 32;

/// An identifier as names are kept: in small letters unless it is quoted.
pub(crate) fn folded(ident: &Ident) -> String {
    match ident.quote_style {
        Some(_) => ident.value.clone(),
        None => ident.value.to_lowercase(),
    }
}

/// Whether an error carries one of ours, which says more than DataFusion's words around it.
pub(super) fn is_own(error: &DataFusionError) -> bool {
    let mut next: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(error) = next {
        if error.is::<crate::Error>() || error.is::<drumline_lake::Error>() {
            return true;
        }
        next = error.source();
    }
    false
}

/// Which tables a plan sees, and inside of which views it is.
#[derive(Clone)]
pub(crate) struct Scope {
    pub(crate) tables: Arc<dyn Tables>,
    views: Vec<TableName>,
}

impl Scope {
    pub(crate) fn new(tables: Arc<dyn Tables>) -> Self {
        Self {
            tables,
            views: Vec::new(),
        }
    }
}

/// A session that sees a scope's tables and nothing else. `base` has no tables.
pub(crate) fn session(base: &SessionContext, scope: Scope) -> SessionContext {
    let catalogs = MemoryCatalogProviderList::new();
    let catalog = LakeCatalog {
        base: base.clone(),
        scope,
    };
    catalogs.register_catalog(CATALOG.to_owned(), Arc::new(catalog));
    let mut config = base
        .copied_config()
        .with_create_default_catalog_and_schema(false)
        // Ours, which does not open every table, one after the other.
        .with_information_schema(false);
    // Errors say where.
    config.options_mut().sql_parser.collect_spans = true;
    let state = SessionStateBuilder::new_from_existing(base.state())
        .with_config(config)
        .with_catalog_list(Arc::new(catalogs))
        .build();
    SessionContext::new_with_state(state)
}

/// A name's provider; a view is planned here, over the same tables.
pub(crate) async fn provider(
    base: &SessionContext,
    scope: &Scope,
    name: &TableName,
) -> crate::Result<Option<Arc<dyn TableProvider>>> {
    if name.schema == information::SCHEMA {
        return information::table(base, scope, &name.name).await;
    }
    if let Some(own) = sql::split_fresh(&name.name) {
        let name = TableName::new(&name.schema, own);
        return match scope.tables.fresh(&name).await? {
            Some(fresh) => Ok(Some(Arc::new(fresh.view()?))),
            None => Ok(None),
        };
    }
    let resolved = match sql::split_as_of(&name.name) {
        Some((own, at)) => {
            let name = TableName::new(&name.schema, own);
            scope.tables.table_at(&name, at).await?
        }
        None => scope.tables.table(name).await?,
    };
    match resolved {
        None => Ok(None),
        Some(Resolved::Table(provider)) => Ok(Some(provider)),
        Some(Resolved::External(foreign)) => match foreign.provider {
            Some(provider) => Ok(Some(provider)),
            None => external::provider(base, name, &foreign.object)
                .await
                .map(Some),
        },
        Some(Resolved::View(sql)) => Ok(Some(Arc::new(view(base, scope, name, sql).await?))),
    }
}

async fn view(
    base: &SessionContext,
    scope: &Scope,
    name: &TableName,
    sql: String,
) -> crate::Result<ViewTable> {
    let wrong = |source: sql::Error| sql::Error::View {
        view: name.to_string(),
        source: Box::new(source),
    };
    let invalid = |reason: String| sql::Error::Invalid {
        reason,
        position: None,
        hint: None,
    };
    if scope.views.contains(name) {
        return Err(wrong(invalid("it reads itself".to_owned())).into());
    }
    if scope.views.len() >= MAX_VIEWS {
        return Err(wrong(invalid(format!("views nest more than {MAX_VIEWS} deep"))).into());
    }
    let mut inner = scope.clone();
    inner.views.push(name.clone());
    let statements = sql::parse(&sql).map_err(wrong)?;
    let parsed = match statements.as_slice() {
        [statement] => match &statement.body {
            sql::Body::Query(parsed) => Parsed::clone(parsed),
            _ => return Err(wrong(invalid("it is no query".to_owned())).into()),
        },
        _ => return Err(wrong(invalid("it is no single query".to_owned())).into()),
    };
    let planned = session(base, inner).state().statement_to_plan(parsed).await;
    let plan = planned.map_err(|error| {
        if is_own(&error) {
            return crate::Error::from(error);
        }
        let names = sql::Names {
            tables: &[],
            functions: &[],
        };
        let begin = sql::Position { line: 1, column: 1 };
        wrong(sql::explain(&error, &sql, begin, &names)).into()
    })?;
    Ok(ViewTable::new(super::as_meant(plan)?, Some(sql)))
}

struct LakeCatalog {
    base: SessionContext,
    scope: Scope,
}

impl fmt::Debug for LakeCatalog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LakeCatalog").finish_non_exhaustive()
    }
}

impl CatalogProvider for LakeCatalog {
    fn schema_names(&self) -> Vec<String> {
        self.scope.tables.schemas()
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        let schema = LakeSchema {
            base: self.base.clone(),
            scope: self.scope.clone(),
            name: name.to_owned(),
        };
        let is_there = name == information::SCHEMA
            || self
                .scope
                .tables
                .schemas()
                .iter()
                .any(|known| known == name);
        is_there.then(|| Arc::new(schema) as _)
    }
}

struct LakeSchema {
    base: SessionContext,
    scope: Scope,
    name: String,
}

impl fmt::Debug for LakeSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LakeSchema")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl SchemaProvider for LakeSchema {
    fn table_names(&self) -> Vec<String> {
        let names = self.scope.tables.names();
        names
            .into_iter()
            .filter(|(schema, _)| *schema == self.name)
            .map(|(_, name)| name)
            .collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let name = TableName::new(&self.name, name);
        Ok(provider(&self.base, &self.scope, &name).await?)
    }

    fn table_exist(&self, name: &str) -> bool {
        let name = sql::as_written(name);
        self.scope
            .tables
            .names()
            .iter()
            .any(|(schema, table)| *schema == self.name && table == name)
    }
}
