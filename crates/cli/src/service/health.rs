//! Whether a server answers at an address.

use std::time::{Duration, Instant};

use perch_protocol::Health;

use crate::client::Client;

/// How long a service may take to listen. Models load afterwards.
const PATIENCE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(100);
/// A manager that starts a program which fails at once may show it as running for a moment.
const SETTLE: Duration = Duration::from_secs(2);

/// Asks once. The error completes "the service …, but".
pub(super) async fn now(url: &str) -> Result<(), String> {
    let client = Client::new(url, None).map_err(|error| error.to_string())?;
    match tokio::time::timeout(Duration::from_secs(5), client.get::<Health>("/health")).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(format!("it does not answer ({error:#})")),
        Err(_) => Err("it does not answer".to_string()),
    }
}

/// Asks until there is an answer, the service has ended, or patience has.
pub(super) async fn wait(url: &str, running: impl Fn() -> bool) -> Result<(), String> {
    let began = Instant::now();
    loop {
        let Err(why) = now(url).await else { return Ok(()) };
        if began.elapsed() > SETTLE && !running() {
            return Err("it has ended".to_string());
        }
        if began.elapsed() > PATIENCE {
            return Err(why);
        }
        tokio::time::sleep(PAUSE).await;
    }
}
