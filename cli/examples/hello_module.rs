//! A small module: says hello to each new block. README.md shows this very text.

// README: begin
use modipc_api::{Capability, CapabilitySet, Event, EventType, LogLevel};
use modipc_module::{Context, Exit, Failure, Module, Topics, run};

struct Hello;

#[async_trait::async_trait]
impl Module for Hello {
    fn id(&self) -> &str {
        "hello"
    }
    fn version(&self) -> &str {
        "1.0.0"
    }
    fn capabilities(&self) -> CapabilitySet {
        CapabilitySet::of(&[Capability::SubscribeEvents])
    }
    fn topics(&self) -> Topics {
        EventType::NewBlock.into()
    }

    async fn on_event(&mut self, cx: &Context, _: u64, event: Event) -> Result<(), Failure> {
        if let Event::NewBlock { height, tx_count, .. } = event {
            cx.client().log(LogLevel::Info, format!("hello, block {height} with {tx_count} transactions"));
        }
        Ok(())
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Exit {
    run(modipc_transport_uds::from_env, Hello).await
}
// README: end
