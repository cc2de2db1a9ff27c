//! A small module: says hello to each new block. README.md shows this very text.

// README: begin
use modipc_module::prelude::*;

struct Hello;

#[async_trait]
impl Module for Hello {
    fn about(&self) -> About {
        About::new("hello", "1.0.0").asks_for(&[Capability::SubscribeEvents]).wants(EventType::NewBlock)
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
    modipc_module::run(modipc_transport_uds::from_env, Hello).await
}
// README: end
