//! A module that takes a call and does not come back from it, until it is killed.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use modipc_api::{ErrorInfo, LogLevel};
use modipc_module::{About, InvocationContext, InvocationHandler, Module};
use tokio::sync::watch;

use super::desk::{method, seen};
use super::version;

pub(crate) struct Sleeper {
    bed: Arc<Bed>,
}

struct Bed {
    napping: watch::Sender<bool>,
}

impl Sleeper {
    pub(crate) fn new() -> Self {
        Sleeper { bed: Arc::new(Bed { napping: watch::Sender::new(false) }) }
    }
}

impl Module for Sleeper {
    fn about(&self) -> About {
        About::new("sleeper", version())
    }

    fn handler(&self) -> Arc<dyn InvocationHandler> {
        self.bed.clone()
    }
}

#[async_trait]
impl InvocationHandler for Bed {
    async fn call(
        &self,
        cx: InvocationContext,
        method: String,
        _params: Bytes,
    ) -> Result<Option<Bytes>, ErrorInfo> {
        match method.as_str() {
            method::READY => Ok(Some(Bytes::new())),
            method::NAP => {
                cx.client.log(LogLevel::Info, "a call came; falling asleep over it");
                self.napping.send_replace(true);
                std::future::pending().await
            }
            method::NAP_BEGUN => {
                seen(&self.napping, |napping| *napping).await;
                Ok(Some(Bytes::new()))
            }
            _ => Ok(None),
        }
    }
}
