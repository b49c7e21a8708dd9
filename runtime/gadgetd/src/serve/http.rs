//! Health and metrics over HTTP.

use std::{collections::VecDeque, convert::Infallible, net::IpAddr, sync::Arc, time::Duration};

use gadgetd_node::{NodeRecorder, Status};
use gadgetd_tracer::Tracer;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::CONTENT_TYPE,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::TcpListener,
    task::{AbortHandle, Id, JoinSet},
    time::timeout,
};

use super::metrics::{self, Metrics};

/// How many connections there may be.
const CONNECTIONS: usize = 64;

/// How many of them from one address.
const OF_ONE: usize = 16;

/// How long one may last: time to ask, to find the answer and to take it.
const CONNECTION: Duration = Duration::from_secs(20);

/// How long a client may take to ask.
const REQUEST: Duration = Duration::from_secs(5);

/// How long an answer may take to find.
const ANSWER: Duration = Duration::from_secs(5);

/// What is told over HTTP.
pub(super) struct Service {
    recorder: NodeRecorder<Tracer>,
    metrics: Arc<Metrics>,
}

/// Whether this node can do its work.
pub(super) struct Readiness {
    pub(super) ready: bool,
    /// A line for each thing that is needed, as Kubernetes' own servers write it.
    pub(super) text: String,
}

impl Readiness {
    fn of(status: Result<Status, String>) -> Self {
        let status = match status {
            Ok(status) => status,
            Err(text) => return Self { ready: false, text: format!("[-]recorder {text}\n") },
        };
        let traces = if status.traces { Ok(()) } else { Err("the Traces are not known yet".to_owned()) };
        let mut this = Self { ready: true, text: String::new() };
        for (name, state) in [("kernel", &status.kernel), ("pods", &status.pods), ("traces", &traces)] {
            let line = match state {
                Ok(()) => format!("[+]{name} ok\n"),
                Err(reason) => format!("[-]{name} {reason}\n"),
            };
            this.ready &= state.is_ok();
            this.text.push_str(&line);
        }
        this
    }

    /// What is missing, in one line.
    pub(super) fn missing(&self) -> String {
        let missing: Vec<_> = self.text.lines().filter_map(|line| line.strip_prefix("[-]")).collect();
        missing.join("; ")
    }
}

impl Service {
    pub(super) fn new(recorder: NodeRecorder<Tracer>, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { recorder, metrics })
    }

    async fn status(&self) -> Result<Status, String> {
        match timeout(ANSWER, self.recorder.status()).await {
            Ok(status) => status.map_err(|error| error.to_string()),
            Err(_) => Err(format!("it does not answer within {ANSWER:?}")),
        }
    }

    pub(super) async fn readiness(&self) -> Readiness {
        Readiness::of(self.status().await)
    }

    async fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if request.method() != Method::GET && request.method() != Method::HEAD {
            return text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n".into());
        }
        match request.uri().path() {
            "/healthz" => text(StatusCode::OK, "ok\n".into()),
            "/readyz" => {
                let Readiness { ready, text: body } = self.readiness().await;
                text(if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, body)
            }
            "/metrics" => {
                let status = self.status().await.ok();
                let losses = timeout(ANSWER, self.recorder.losses()).await.ok().and_then(Result::ok);
                match self.metrics.text(status.as_ref(), &losses.unwrap_or_default()) {
                    Ok(body) => answer(StatusCode::OK, metrics::MEDIA_TYPE, body),
                    Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
                }
            }
            _ => text(StatusCode::NOT_FOUND, "there are /healthz, /readyz and /metrics\n".into()),
        }
    }
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    answer(status, "text/plain; charset=utf-8", body)
}

fn answer(status: StatusCode, media_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(media_type));
    response
}

/// Answers whoever connects, for ever.
pub(super) async fn serve(listener: TcpListener, service: Arc<Service>) {
    let (mut connections, mut tasks) = (Connections::default(), JoinSet::new());
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(ended) = tasks.join_next_with_id(), if !tasks.is_empty() => {
                connections.ended(ended.map_or_else(|error| error.id(), |(id, ())| id));
                continue;
            }
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            // Too many files, mostly: some will be closed.
            Err(error) => {
                tracing::warn!(%error, "cannot take a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let service = service.clone();
        let task = tasks.spawn(async move {
            let answer = service_fn(async |request: Request<Incoming>| {
                Ok::<_, Infallible>(service.answer(&request).await)
            });
            let mut connection = http1::Builder::new();
            connection.timer(TokioTimer::new()).header_read_timeout(REQUEST).keep_alive(false);
            match timeout(CONNECTION, connection.serve_connection(TokioIo::new(stream), answer)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "a connection"),
                Err(_) => tracing::debug!(%peer, "ends a connection that takes too long"),
            }
        });
        connections.begun(peer.ip(), task);
    }
}

/// The connections that there are, oldest first.
///
/// Who can reach this port may be anybody on the cluster's network, and the kubelet kills a gadgetd that does not answer. So
/// nobody is kept waiting for others to go: the oldest goes, first of all the oldest of who has many.
#[derive(Default)]
struct Connections(VecDeque<(IpAddr, AbortHandle)>);

impl Connections {
    fn begun(&mut self, peer: IpAddr, task: AbortHandle) {
        self.0.push_back((peer, task));
        let of_peer = self.0.iter().filter(|(other, _)| *other == peer).count();
        if of_peer > OF_ONE {
            self.end(|other| other == peer);
        } else if self.0.len() > CONNECTIONS {
            self.end(|_| true);
        }
    }

    fn end(&mut self, which: impl Fn(IpAddr) -> bool) {
        let oldest = self.0.iter().position(|(peer, _)| which(*peer));
        if let Some((_, task)) = oldest.and_then(|oldest| self.0.remove(oldest)) {
            task.abort();
        }
    }

    fn ended(&mut self, id: Id) {
        self.0.retain(|(_, task)| task.id() != id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> Status {
        Status { kernel: Ok(()), pods: Ok(()), traces: true, sessions: 0, running: 0, ended: 0, slots: 0 }
    }

    #[test]
    fn readiness_says_what_is_missing() {
        let ready = Readiness::of(Ok(status()));
        assert_eq!((ready.ready, ready.text.as_str()), (true, "[+]kernel ok\n[+]pods ok\n[+]traces ok\n"));
        let kernel = Err("no cgroup v2 hierarchy".to_owned());
        let broken = Readiness::of(Ok(Status { kernel, traces: false, ..status() }));
        assert!(!broken.ready);
        assert_eq!(broken.missing(), "kernel no cgroup v2 hierarchy; traces the Traces are not known yet");
        assert!(!Readiness::of(Err("it has ended".into())).ready);
    }

    #[tokio::test]
    async fn whoever_keeps_connections_keeps_nobody_else_from_an_answer() {
        let (mut connections, mut tasks) = (Connections::default(), JoinSet::new());
        let address = |last: u8| IpAddr::from([10, 0, 0, last]);
        let mut begin = |connections: &mut Connections, peer| {
            connections.begun(peer, tasks.spawn(std::future::pending::<()>()));
        };
        let of =
            |connections: &Connections, peer| connections.0.iter().filter(|(one, _)| *one == peer).count();
        begin(&mut connections, address(1));
        for _ in 0..3 * CONNECTIONS {
            begin(&mut connections, address(2));
        }
        assert_eq!((of(&connections, address(1)), of(&connections, address(2))), (1, OF_ONE));
        for peer in 3..=8 {
            for _ in 0..OF_ONE {
                begin(&mut connections, address(peer));
            }
        }
        assert_eq!(connections.0.len(), CONNECTIONS);
        begin(&mut connections, address(1));
        assert_eq!((connections.0.len(), of(&connections, address(1))), (CONNECTIONS, 1));
        // Those that went are at an end.
        for _ in CONNECTIONS..tasks.len() {
            assert!(tasks.join_next().await.unwrap().unwrap_err().is_cancelled());
        }
        let id = connections.0[0].1.id();
        connections.ended(id);
        assert_eq!(connections.0.len(), CONNECTIONS - 1);
    }
}
