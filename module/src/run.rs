//! Running a module from its first frame to its last.

use std::pin::pin;
use std::sync::Arc;

use futures_util::future::{Either, pending, select};
use modipc_api::{CapabilitySet, LogLevel};
use modipc_core::{CloseReason, Initiator};
use modipc_driver::{Runtime, Transport};

use crate::{Client, Connect, Context, Delivery, Environment, EventStream, Exit, Failure, Module, RunError};

/// Runs a module as the whole of its process: takes the runtime and the connection from `connect`, which a transport provides, runs
/// the module until host or module ends it, and gives the process's exit code.
///
/// Without a connection in the environment it explains on standard error what the program is and gives [`Exit::Usage`]. What goes
/// wrong is written to standard error, which the host drains into its log.
pub async fn run<R, T, E, M>(connect: impl FnOnce() -> Result<(R, T), E>, module: M) -> Exit
where
    R: Runtime,
    T: Transport,
    E: Into<Failure>,
    M: Module,
{
    let environment = Environment::from_process();
    if !environment.has_connection() {
        eprintln!("{}", explain(&module));
        return Exit::Usage;
    }
    let (runtime, transport) = match connect() {
        Ok(connected) => connected,
        Err(error) => {
            eprintln!("{}: no connection to the host: {}", module.about().id, error.into());
            return Exit::Retry;
        }
    };
    let id = module.about().id;
    match run_on(Arc::new(runtime), transport, environment, module).await {
        Ok(_) => Exit::Done,
        Err(error) => {
            eprintln!("{id}: {error}");
            error.exit()
        }
    }
}

/// Runs a module on a connection. Gives the reason when the connection ended in order.
///
/// Cancel safety: dropping the future ends the module where it stands; the host sees its goodbye.
///
/// # Errors
/// [`RunError`]: there was no connection, a method of the module failed, or the connection was lost.
pub async fn run_on<T: Transport, M: Module>(
    runtime: Arc<dyn Runtime>,
    transport: T,
    environment: Environment,
    mut module: M,
) -> Result<CloseReason, RunError> {
    let about = module.about();
    let id = environment.module_id().unwrap_or(&about.id);
    let hello = Connect::new(id, &about.version)
        .capabilities(about.capabilities)
        .token(environment.token())
        .handler(module.handler());
    let hello = module.connect(hello);
    let client = Client::connect(runtime, transport, hello).await?;
    let cx = Context::new(client.clone(), environment);

    if let Err(failure) = drive(&mut module, &cx).await {
        // A call that failed because the connection did tells less than the connection's own end.
        if let Some(reason) = client.closed().filter(|reason| !matches!(reason, CloseReason::Drained { .. }))
        {
            return Err(RunError::Lost(reason));
        }
        let text = format!("the module ends because it failed: {failure}");
        client.log(LogLevel::Error, &text);
        client.close(0, &text).await;
        return Err(RunError::Failed(failure));
    }
    match client.close(0, "done").await {
        reason @ CloseReason::Drained { .. } => Ok(reason),
        // The plain profile has no goodbye: this is how we end there.
        CloseReason::Aborted => Ok(CloseReason::Aborted),
        reason => Err(RunError::Lost(reason)),
    }
}

/// What a module's program says when somebody starts it by hand.
#[must_use]
pub fn explain(module: &impl Module) -> String {
    let about = module.about();
    format!(
        "{id} {version} is a module of a node. It does nothing by itself: the node starts it and talks to it over a connection \
         that it inherits (MODIPC_FD).\n\
         To attach it to a running node by hand, let the node's operator issue a token, and set SOCKET_PATH and MODIPC_TOKEN.\n\
         It asks for the capabilities {capabilities} and wants the events {topics}.",
        id = about.id,
        version = about.version,
        capabilities = about.capabilities,
        topics = about.topics,
    )
}

async fn drive<M: Module>(module: &mut M, cx: &Context) -> Result<(), Failure> {
    module.start(cx).await?;
    let topics = module.topics();
    let mut events = match topics.is_empty() || cx.client().closed().is_some() {
        true => None,
        false => Some(cx.client().subscribe(topics, module.subscribe_options()).await?),
    };
    let mut grants = cx.client().grants();
    loop {
        match next(cx.client(), events.as_mut(), grants).await {
            Next::Delivery(delivery) => deliver(module, cx, delivery).await?,
            Next::Grants(changed) => {
                grants = changed;
                module.on_grants(cx, changed).await?;
            }
            Next::Over => break,
        }
    }
    match cx.client().draining_seen() {
        Some(draining) if draining.by == Initiator::Peer => module.on_draining(cx, &draining).await,
        Some(_) | None => Ok(()),
    }
}

enum Next {
    Delivery(Delivery),
    Grants(CapabilitySet),
    Over,
}

/// Events come first, so that everything that arrived before a goodbye is dealt with before it.
async fn next(client: &Client, events: Option<&mut EventStream>, known: CapabilitySet) -> Next {
    let delivery = pin!(async {
        match events {
            Some(events) => events.next().await.map_or(Next::Over, Next::Delivery),
            None => {
                client.draining().await;
                Next::Over
            }
        }
    });
    let grants = pin!(async {
        match client.grants_changed(known).await {
            Some(grants) => Next::Grants(grants),
            None => pending().await,
        }
    });
    match select(delivery, grants).await {
        Either::Left((next, _)) | Either::Right((next, _)) => next,
    }
}

async fn deliver<M: Module>(module: &mut M, cx: &Context, delivery: Delivery) -> Result<(), Failure> {
    match delivery {
        Delivery::Event { position, event } => module.on_event(cx, position, event).await,
        Delivery::Unknown { position, event } => module.on_unknown(cx, position, event).await,
        Delivery::Lagged { first, last } => module.on_lag(cx, first, last).await,
        Delivery::Undecodable { position, error, .. } => {
            let text = format!("the host sent an event that does not decode: {error}");
            let position = position.to_string();
            cx.client().log_with(LogLevel::Warn, "modipc", text, &[("position", &position)]);
            Ok(())
        }
    }
}
