//! Plans a route's transform, and plans it anew when a table that it looks things up in has changed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use arrow::datatypes::SchemaRef;
use drumline_proto::v1::{RouteDefinition, StreamDefinition};

use crate::host::{Options, SessionFactory};
use crate::lookup::{self, Lookups, Tables};
use crate::partitioning::{self, Refused};
use crate::places::Places;
use crate::transform::Transform;
use crate::{Error, Result};

/// How often tables are looked at for a newer version.
const DEFAULT_REFRESH: Duration = Duration::from_secs(60);

/// One route's.
pub(crate) struct Planner {
    session: SessionFactory,
    topic: String,
    route: RouteDefinition,
    input: SchemaRef,
    places: Places,
    /// The tables that its transform looks things up in.
    names: Vec<String>,
    tables: Option<Tables>,
    loaded: Lookups,
    refresh: Duration,
    looked: Instant,
}

impl Planner {
    /// Reads the tables that the transform names, of the lake with this URL.
    pub(crate) async fn new(
        options: &Options,
        definition: &StreamDefinition,
        lake: &str,
        topic: String,
        route: &RouteDefinition,
        input: SchemaRef,
        places: Places,
    ) -> Result<Self> {
        let session = (options.session)().map_err(|error| no_session(&error))?;
        let names = lookup::names(&session, &route.transform);
        let tables = match names.is_empty() || lake.is_empty() {
            true => None,
            false => Some(Tables::open(lake, &options.stores, definition.lookup_max_bytes).await?),
        };
        let mut planner = Self {
            session: options.session.clone(),
            topic,
            route: route.clone(),
            input,
            places,
            names,
            tables,
            loaded: Lookups::new(),
            refresh: match definition.lookup_refresh_millis {
                0 => DEFAULT_REFRESH,
                millis => Duration::from_millis(millis),
            },
            looked: Instant::now(),
        };
        planner.load().await?;
        Ok(planner)
    }

    pub(crate) async fn plan(&self) -> Result<Transform, Refused> {
        let session = (self.session)().map_err(|error| Refused::Transform(no_session(&error)))?;
        let (topic, input) = (self.topic.as_str(), self.input.clone());
        let planned = partitioning::plan(&session, topic, &self.route, input, &self.loaded).await?;
        Ok(planned.reading(&self.places))
    }

    /// The transform with newer tables, where there are any and it is time to look. Only to be asked between files:
    /// rows of one commit are made with one version of each table.
    pub(crate) async fn refreshed(&mut self, now: Instant) -> Result<Option<Transform>> {
        if self.tables.is_none() || now.saturating_duration_since(self.looked) < self.refresh {
            return Ok(None);
        }
        self.looked = now;
        match self.load().await? {
            true => self.plan().await.map(Some).map_err(Refused::into_error),
            false => Ok(None),
        }
    }

    /// Versions of the tables that are used now.
    pub(crate) fn versions(&self) -> BTreeMap<String, u64> {
        let loaded = self.loaded.iter();
        loaded
            .map(|(name, loaded)| (name.clone(), loaded.version))
            .collect()
    }

    /// Whether there was anything newer.
    async fn load(&mut self) -> Result<bool> {
        let Some(tables) = &self.tables else {
            return Ok(false);
        };
        let newer = tables.load(&self.names, &self.loaded).await?;
        let is_newer = !newer.is_empty();
        self.loaded.extend(newer);
        Ok(is_newer)
    }
}

fn no_session(error: &datafusion::error::DataFusionError) -> Error {
    Error::Bug {
        context: format!("no session for transforms: {error}"),
    }
}
