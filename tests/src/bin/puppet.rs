//! A module in a process of its own, for tests that start, kill and ask one. Its setting `role` says what it does wrong.
#![forbid(unsafe_code)]

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use modipc_api::{Capability, ErrorInfo, HealthReport, HealthStatus};
use modipc_module::{
    About, Context, Draining, Environment, Exit, Failure, InvocationContext, InvocationHandler, Module,
};

/// Lines that a `printer` prints on each of its streams before it connects, and their length. A pipe holds 64 KiB.
const LINES: usize = 300;
const LINE_BYTES: usize = 1024;

fn main() -> Exit {
    let role = Environment::from_process().setting("role").unwrap_or_default().to_owned();
    if role == "printer" {
        for n in 0..LINES {
            println!("{n:0LINE_BYTES$}");
            eprintln!("{n:0LINE_BYTES$}");
        }
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("puppet: no runtime: {error}");
            return Exit::Failed;
        }
    };
    runtime.block_on(modipc_module::run(modipc_transport_uds::from_env, Puppet { role }))
}

struct Puppet {
    role: String,
}

#[async_trait]
impl Module for Puppet {
    fn about(&self) -> About {
        About::new("puppet", "1.0").asks_for(&[Capability::ReadChainState])
    }

    fn handler(&self) -> Arc<dyn InvocationHandler> {
        Arc::new(Handler)
    }

    async fn start(&mut self, cx: &Context) -> Result<(), Failure> {
        if self.role == "caller" {
            // Which is answered when the test says so, or never.
            cx.client().get_chain_info().await?;
        }
        Ok(())
    }

    async fn on_draining(&mut self, cx: &Context, draining: &Draining) -> Result<(), Failure> {
        if let Some(dir) = cx.environment().data_dir() {
            std::fs::write(dir.join("goodbye"), draining.detail.as_bytes())?;
        }
        if self.role == "stubborn" {
            // It was told, and stays.
            std::future::pending::<()>().await;
        }
        Ok(())
    }
}

struct Handler;

#[async_trait]
impl InvocationHandler for Handler {
    async fn health(&self, cx: InvocationContext) -> HealthReport {
        // It is asked itself: only it knows how many calls of its own it has made.
        let calls = cx.client.stats().calls;
        HealthReport {
            status: HealthStatus::Degraded,
            detail: format!("pid {}, {calls} calls", std::process::id()),
        }
    }

    async fn call(&self, _: InvocationContext, method: String, _: Bytes) -> Result<Option<Bytes>, ErrorInfo> {
        match &*method {
            "environment" => {
                let lines = std::env::vars().map(|(name, value)| format!("{name}={value}\n"));
                Ok(Some(lines.collect::<String>().into_bytes().into()))
            }
            "silence" => std::future::pending().await,
            _ => Ok(None),
        }
    }
}
