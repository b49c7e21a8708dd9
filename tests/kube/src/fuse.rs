//! Death between two steps.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use kube::{Client, client::Body};
use tokio::sync::Notify;
use tower::service_fn;

/// Counts what a controller does to the outside, and stops it for ever at one point: before or after one request to
/// the API server, the recorder or a sink. Nothing that comes later happens; the test then takes the controller away.
#[derive(Clone)]
pub struct Fuse {
    left: Arc<AtomicI64>,
    blown: Arc<Notify>,
}

impl Default for Fuse {
    /// One that holds.
    fn default() -> Self {
        Self::after(i64::MAX)
    }
}

impl Fuse {
    /// One that blows at the `steps`th point.
    pub fn after(steps: i64) -> Self {
        Self { left: Arc::new(AtomicI64::new(steps)), blown: Arc::default() }
    }

    /// Passes a point, or never returns.
    pub async fn burn(&self) {
        if self.left.fetch_sub(1, Ordering::SeqCst) <= 1 {
            self.blown.notify_one();
            futures::future::pending::<()>().await;
        }
    }

    /// Returns when it has blown.
    pub async fn blows(&self) {
        self.blown.notified().await;
    }

    /// Whether it has.
    pub fn is_blown(&self) -> bool {
        self.left.load(Ordering::SeqCst) <= 0
    }

    /// A client whose requests are points. Watching is none: it changes nothing, and goes on all the time.
    pub fn client(&self, client: &Client) -> Client {
        let (inner, fuse) = (client.clone(), self.clone());
        let service = service_fn(move |request: http::Request<Body>| {
            let (inner, fuse) = (inner.clone(), fuse.clone());
            async move {
                let counts =
                    !request.uri().query().is_some_and(|q| q.contains("watch=") || q.contains("limit="));
                if counts {
                    fuse.burn().await;
                }
                let response = inner.send(request).await;
                if counts {
                    fuse.burn().await;
                }
                response
            }
        });
        Client::new(service, client.default_namespace())
    }
}
