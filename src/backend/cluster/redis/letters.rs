//! Letters between nodes, and ending the connections that bring them.

use super::*;

impl Redis {
    /// The channel of a node.
    fn channel(&self, node: u64) -> String {
        format!("{}:node:{node}", self.prefix)
    }

    /// Publishes to a node; whether anybody was listening.
    pub(in crate::backend::cluster) async fn publish(&self, node: u64, letter: Vec<u8>) -> Result<bool, Fault> {
        let heard: FredResult<i64> = self.reader.publish(self.channel(node), Value::Bytes(letter.into())).await;
        heard.map(|heard| heard > 0).map_err(fault)
    }

    /// Listens to what is published to a node, and no longer to `before`. Nothing in the channel means
    /// that something may have been missed.
    pub(in crate::backend::cluster) async fn listen(&self, before: u64, node: u64) -> Result<(), Fault> {
        if before != 0 {
            // It listened to nothing anyone would say.
            let _ = self.subscriber.unsubscribe(self.channel(before)).await;
        }
        self.subscriber.subscribe(self.channel(node)).await.map_err(fault)
    }

    /// What is published to this node from now on; `None` when some of it may be missing.
    pub(in crate::backend::cluster) fn letters(&self) -> mpsc::UnboundedReceiver<Option<Bytes>> {
        let (post, letters) = mpsc::unbounded_channel();
        let (mut messages, mut reconnects) = (self.subscriber.message_rx(), self.subscriber.reconnect_rx());
        tokio::spawn(async move {
            loop {
                let letter = tokio::select! {
                    message = messages.recv() => match message {
                        Ok(message) => message.value.into_bytes(),
                        Err(tokio::sync::broadcast::error::RecvError::Lagged(missed)) => {
                            warn!(missed, "letters of other nodes were missed");
                            None
                        }
                        Err(tokio::sync::broadcast::error::RecvError::Closed) => return,
                    },
                    _ = reconnects.recv() => None,
                };
                if post.send(letter).is_err() {
                    return;
                }
            }
        });
        letters
    }

    /// Closes all connections.
    pub(in crate::backend::cluster) async fn close(&self) {
        for client in self.lanes.iter().chain([&self.reader]) {
            // It was going away anyway.
            let _ = client.quit().await;
        }
        let _ = self.subscriber.quit().await;
    }
}
