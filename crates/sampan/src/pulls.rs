//! Models that are fetched while the server serves: the queue of the model store, as the API asks for it.

use std::path::Path;
use std::sync::Arc;

use api::PullRequest;
use base::{Clock, Kind};
use hub::{Order, Progress, Queue, Wanted};
use serde_json::{Value, json};

use crate::depot;

/// The queue of one server.
pub(crate) struct Pulls(Queue);

impl Pulls {
    /// `serve` is told the name and the place of every model that is there.
    pub(crate) fn start(
        data: &Path,
        clock: &Arc<dyn Clock>,
        serve: impl Fn(&str, &Path) -> anyhow::Result<()> + Send + Sync + 'static,
    ) -> anyhow::Result<Self> {
        let arrived = move |pulled: &hub::Pulled| {
            let served = serve(&pulled.name, &pulled.path);
            served.map_err(|error| format!("{} is here, but it cannot be served: {error:#}", pulled.name))
        };
        Ok(Self(Queue::start(depot::depot(data), Arc::clone(clock), Box::new(arrived))?))
    }
}

impl api::Pulls for Pulls {
    fn list(&self) -> Vec<Value> {
        self.0.list().iter().map(shown).collect()
    }

    fn order(&self, request: PullRequest) -> Result<Value, (Kind, String)> {
        let wanted = Wanted::parse(&request.model).map_err(|error| (error.kind(), error.to_string()))?;
        let source = depot::hub_of(&request.model, request.from.as_deref(), None);
        let source = source.map_err(|error| (Kind::Invalid, format!("{error:#}")))?;
        let planes = depot::planes(&request.planes).map_err(|error| (Kind::Invalid, format!("{error:#}")))?;
        let options = hub::Options { name: request.name, cache: depot::cache(), planes, ..hub::Options::default() };
        let ordered = self.0.order(Order { source, wanted, options });
        ordered.map(|progress| shown(&progress)).map_err(|error| (error.kind(), error.to_string()))
    }

    fn stop(&self, id: u64) -> Option<Value> {
        self.0.stop(id).map(|progress| shown(&progress))
    }
}

fn shown(progress: &Progress) -> Value {
    json!(progress)
}
