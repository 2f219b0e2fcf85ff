//! When a process is asked to stop: SIGINT, SIGTERM, or (for children of `up` and `demo`) the end of
//! the process that started it, which is seen as the end of stdin.

use std::time::Duration;

use futures::FutureExt as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::failure::{OrFail as _, Result};

/// How long a process whose parent is gone may take to stop cleanly; nobody is left to kill it.
const ORPHAN_DEADLINE: Duration = Duration::from_secs(15);

/// SIGINT, and mostly SIGTERM too, of this process.
pub(crate) struct StopSignals {
    interrupt: Signal,
    terminate: Option<Signal>,
}

impl StopSignals {
    /// From here on the two signals no longer end the process by themselves.
    pub(crate) fn listen() -> Result<Self> {
        let terminate =
            signal(SignalKind::terminate()).or_fail(|| "cannot listen for SIGTERM".to_owned())?;
        Ok(Self {
            terminate: Some(terminate),
            ..Self::interrupts()?
        })
    }

    /// SIGINT only: SIGTERM still ends the process, for a prompt that waits for its user.
    pub(crate) fn interrupts() -> Result<Self> {
        let interrupt =
            signal(SignalKind::interrupt()).or_fail(|| "cannot listen for Ctrl-C".to_owned())?;
        Ok(Self {
            interrupt,
            terminate: None,
        })
    }

    /// Resolves when one arrives, or has arrived since the last call.
    pub(crate) async fn recv(&mut self) {
        let terminate = async {
            match &mut self.terminate {
                Some(terminate) => terminate.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = terminate => {}
        }
    }

    /// Forgets what has arrived: it was meant for what is over.
    pub(crate) fn forget(&mut self) {
        while self.recv().now_or_never().is_some() {}
    }
}

/// How a worker or a master is asked to end. A second signal ends it at once.
pub(crate) struct Ending {
    /// SIGTERM: in good order.
    pub(crate) in_order: CancellationToken,
    /// SIGINT: now.
    pub(crate) now: CancellationToken,
}

/// Listens for what asks a worker or a master to end.
pub(crate) fn ending() -> Result<Ending> {
    let asked = Ending {
        in_order: CancellationToken::new(),
        now: CancellationToken::new(),
    };
    let StopSignals {
        mut interrupt,
        terminate,
    } = StopSignals::listen()?;
    let (in_order, now) = (asked.in_order.clone(), asked.now.clone());
    tokio::spawn(async move {
        let Some(mut terminate) = terminate else {
            return;
        };
        tokio::select! {
            _ = interrupt.recv() => now.cancel(),
            _ = terminate.recv() => in_order.cancel(),
        }
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        std::process::exit(130);
    });
    Ok(asked)
}

/// A token that is cancelled when the process should stop. A second signal ends it at once.
pub(crate) fn stop_token() -> Result<CancellationToken> {
    let token = CancellationToken::new();
    let mut signals = StopSignals::listen()?;
    let stop = token.clone();
    tokio::spawn(async move {
        signals.recv().await;
        stop.cancel();
        signals.recv().await;
        std::process::exit(130);
    });
    Ok(token)
}

/// Cancels the token when the process that started this one is gone.
pub(crate) fn end_with_parent(stop: CancellationToken) -> Result {
    // A thread, not a task: a blocking read of stdin would hold up the runtime's shutdown.
    std::thread::Builder::new()
        .name("parent-watch".to_owned())
        .spawn(move || {
            let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
            stop.cancel();
            std::thread::sleep(ORPHAN_DEADLINE);
            std::process::exit(1);
        })
        .or_fail(|| "cannot watch the parent process".to_owned())?;
    Ok(())
}
