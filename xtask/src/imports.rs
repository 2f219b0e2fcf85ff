//! The import rules of ARCHITECTURE.md, checked on cargo's own graph.
//!
//! Development dependencies do not count: tests may see what they test with.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::run::{cargo_path, output};

/// Something that must hold of the graph.
enum Rule {
    /// The first crate must not reach any package of this name, however far.
    Unreachable(&'static str, &'static str),
    /// Of our crates only this one may depend on packages whose names begin so.
    OnlyImporter(&'static str, &'static str),
    /// There is one version of this package in the whole graph.
    OneVersion(&'static str),
    /// The crate depends on no crate of the workspace.
    Alone(&'static str),
}

const RULES: [Rule; 24] = [
    Rule::Unreachable("drumline-master", "drumline-worker"),
    Rule::Unreachable("drumline-worker", "drumline-master"),
    Rule::Unreachable("drumline-lake", "datafusion-distributed"),
    Rule::Unreachable("drumline-ingest", "datafusion-distributed"),
    Rule::Unreachable("drumline-ingest", "drumline-engine"),
    Rule::Unreachable("drumline-proto", "datafusion"),
    Rule::Unreachable("drumline-security", "datafusion"),
    Rule::Unreachable("drumline-client", "drumline-engine"),
    Rule::Unreachable("drumline-client", "drumline-lake"),
    Rule::Unreachable("drumline-client", "drumline-ingest"),
    Rule::Unreachable("drumline-master", "rdkafka"),
    Rule::Unreachable("drumline-events", "datafusion"),
    Rule::Unreachable("drumline-cli", "drumline-testkit"),
    Rule::OnlyImporter("drumline-ingest", "rdkafka"),
    Rule::OnlyImporter("drumline-lake", "deltalake"),
    Rule::OnlyImporter("drumline-engine", "datafusion-distributed"),
    Rule::OnlyImporter("drumline-benches", "drumline-testkit"),
    Rule::OneVersion("arrow"),
    Rule::OneVersion("datafusion"),
    Rule::OneVersion("object_store"),
    Rule::Alone("drumline-proto"),
    Rule::Alone("drumline-security"),
    Rule::Alone("drumline-lake"),
    Rule::Alone("xtask"),
];

/// Holds features together for the build; its edges are no imports. Only xtask must do without it,
/// because it would bring everything.
const FEATURES: &str = "drumline-workspace-hack";

/// Fails, naming every rule that is broken and the way it is.
pub(crate) fn check() -> Result<()> {
    let metadata = output(
        &cargo_path(),
        &["metadata", "--format-version=1", "--locked"],
    )?;
    let graph = Graph::read(&serde_json::from_str(&metadata)?)?;
    let broken: Vec<String> = RULES.iter().filter_map(|rule| graph.breaks(rule)).collect();
    if !broken.is_empty() {
        bail!("import rules are broken:\n  {}", broken.join("\n  "));
    }
    eprintln!("{} import rules hold", RULES.len());
    Ok(())
}

struct Graph {
    /// Name by package id.
    names: BTreeMap<String, String>,
    /// Ids of the packages that a package depends on, development dependencies left out.
    edges: BTreeMap<String, Vec<String>>,
    members: BTreeSet<String>,
}

impl Graph {
    fn read(metadata: &Value) -> Result<Self> {
        let text = |value: &Value, key: &str| -> Result<String> {
            let found = value.get(key).and_then(Value::as_str);
            Ok(found
                .with_context(|| format!("no {key} in cargo's metadata"))?
                .to_owned())
        };
        let list = |value: &Value, key: &str| -> Result<Vec<Value>> {
            let found = value.get(key).and_then(Value::as_array);
            Ok(found
                .with_context(|| format!("no {key} in cargo's metadata"))?
                .clone())
        };
        let mut graph = Self {
            names: BTreeMap::new(),
            edges: BTreeMap::new(),
            members: BTreeSet::new(),
        };
        for package in list(metadata, "packages")? {
            graph
                .names
                .insert(text(&package, "id")?, text(&package, "name")?);
        }
        for member in list(metadata, "workspace_members")? {
            graph.members.extend(member.as_str().map(str::to_owned));
        }
        let resolve = metadata
            .get("resolve")
            .context("no resolve in cargo's metadata")?;
        for node in list(resolve, "nodes")? {
            let mut edges = Vec::new();
            for dependency in list(&node, "deps")? {
                let kinds = list(&dependency, "dep_kinds")?;
                let is_dev = |kind: &Value| kind.get("kind").and_then(Value::as_str) == Some("dev");
                if !kinds.iter().all(is_dev) {
                    edges.push(text(&dependency, "pkg")?);
                }
            }
            let id = text(&node, "id")?;
            if graph.name(&id) != "xtask" {
                edges.retain(|edge| graph.name(edge) != FEATURES);
            }
            graph.edges.insert(id, edges);
        }
        Ok(graph)
    }

    fn name<'a>(&'a self, id: &'a str) -> &'a str {
        self.names.get(id).map_or(id, String::as_str)
    }

    fn member(&self, name: &str) -> Option<&String> {
        self.members.iter().find(|id| self.name(id) == name)
    }

    fn dependencies(&self, id: &str) -> impl Iterator<Item = &String> {
        self.edges.get(id).into_iter().flatten()
    }

    /// How the rule is broken, or None.
    fn breaks(&self, rule: &Rule) -> Option<String> {
        match *rule {
            Rule::Unreachable(from, to) => {
                let Some(start) = self.member(from) else {
                    return Some(format!("there is no crate {from}"));
                };
                let path = self.path(start, to)?;
                Some(format!("{from} must not see {to}: {}", path.join(" -> ")))
            }
            Rule::OnlyImporter(importer, prefix) => {
                let mut found = Vec::new();
                for member in &self.members {
                    let imports = |id: &&String| self.name(id).starts_with(prefix);
                    let name = self.name(member);
                    if name != importer && self.dependencies(member).any(|id| imports(&id)) {
                        found.push(name);
                    }
                }
                let who = found.join(", ");
                (!found.is_empty())
                    .then(|| format!("only {importer} may import {prefix}: {who} does"))
            }
            Rule::OneVersion(name) => {
                let ids: Vec<_> = self
                    .names
                    .iter()
                    .filter(|(_, other)| *other == name)
                    .collect();
                let versions: Vec<&str> = ids.iter().map(|(id, _)| id.as_str()).collect();
                let say = || format!("one version of {name}: there are {}", versions.join(", "));
                (versions.len() != 1).then(say)
            }
            Rule::Alone(name) => {
                let Some(start) = self.member(name) else {
                    return Some(format!("there is no crate {name}"));
                };
                let other = self
                    .dependencies(start)
                    .find(|id| self.members.contains(*id))?;
                Some(format!(
                    "{name} must depend on no crate of ours: it does on {}",
                    self.name(other)
                ))
            }
        }
    }

    /// Names from `start` to the nearest package called `name`.
    fn path(&self, start: &str, name: &str) -> Option<Vec<String>> {
        let mut came_from: BTreeMap<&str, &str> = BTreeMap::new();
        let mut queue = std::collections::VecDeque::from([start]);
        while let Some(at) = queue.pop_front() {
            if at != start && self.name(at) == name {
                let mut path = vec![self.name(at).to_owned()];
                let mut step = at;
                while let Some(&before) = came_from.get(step) {
                    path.push(self.name(before).to_owned());
                    step = before;
                }
                path.reverse();
                return Some(path);
            }
            for next in self.dependencies(at) {
                if next != start && !came_from.contains_key(next.as_str()) {
                    came_from.insert(next, at);
                    queue.push_back(next);
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A workspace of crates a to d and packages x, y; edges as (from, to, kind).
    fn graph(edges: &[(&str, &str, Option<&str>)]) -> Graph {
        let ids = ["a", "b", "c", "d", "x", "y", "xx"];
        let nodes: Vec<Value> = ids
            .iter()
            .map(|id| {
                let deps = edges.iter().filter(|(from, _, _)| from == id);
                let deps: Vec<Value> = deps
                    .map(|(_, to, kind)| json!({"pkg": to, "dep_kinds": [{"kind": kind}]}))
                    .collect();
                json!({"id": id, "deps": deps})
            })
            .collect();
        let name = |id: &str| {
            if id == "xx" {
                "x".to_owned()
            } else {
                id.to_owned()
            }
        };
        let packages: Vec<Value> = ids
            .iter()
            .map(|id| json!({"id": id, "name": name(id)}))
            .collect();
        let members = ["a", "b", "c", "d"];
        let metadata = json!({"packages": packages, "workspace_members": members, "resolve": {"nodes": nodes}});
        Graph::read(&metadata).unwrap()
    }

    #[test]
    fn a_way_through_other_crates_is_found_and_named() {
        let graph = graph(&[
            ("a", "b", None),
            ("b", "x", None),
            ("x", "y", Some("build")),
        ]);
        let broken = graph.breaks(&Rule::Unreachable("a", "y")).unwrap();
        assert_eq!(broken, "a must not see y: a -> b -> x -> y");
        assert_eq!(graph.breaks(&Rule::Unreachable("b", "a")), None);
    }

    #[test]
    fn development_dependencies_do_not_count() {
        let graph = graph(&[("a", "x", Some("dev")), ("a", "b", Some("dev"))]);
        assert_eq!(graph.breaks(&Rule::Unreachable("a", "x")), None);
        assert_eq!(graph.breaks(&Rule::Alone("a")), None);
    }

    #[test]
    fn a_second_importer_is_named() {
        let graph = graph(&[("a", "x", None), ("b", "x", None), ("c", "a", None)]);
        let broken = graph.breaks(&Rule::OnlyImporter("a", "x")).unwrap();
        assert_eq!(broken, "only a may import x: b does");
        let fewer = super::tests::graph(&[("a", "x", None), ("c", "a", None)]);
        assert_eq!(fewer.breaks(&Rule::OnlyImporter("a", "x")), None);
    }

    #[test]
    fn two_versions_or_none_are_found() {
        let graph = graph(&[]);
        assert_eq!(
            graph.breaks(&Rule::OneVersion("x")).unwrap(),
            "one version of x: there are x, xx"
        );
        assert_eq!(graph.breaks(&Rule::OneVersion("y")), None);
        assert!(graph.breaks(&Rule::OneVersion("z")).is_some());
    }

    #[test]
    fn a_crate_that_should_be_alone_is_not() {
        let graph = graph(&[("a", "x", None), ("b", "c", None)]);
        assert_eq!(graph.breaks(&Rule::Alone("a")), None);
        assert!(
            graph
                .breaks(&Rule::Alone("b"))
                .unwrap()
                .ends_with("it does on c")
        );
    }

    #[test]
    fn a_rule_about_a_crate_that_is_gone_is_broken() {
        assert!(graph(&[]).breaks(&Rule::Unreachable("gone", "x")).is_some());
        assert!(graph(&[]).breaks(&Rule::Alone("gone")).is_some());
    }
}
