//! The one actor of a node that others reach, and its one message.

use std::sync::Arc;

use bytes::Bytes;
use ractor::{
    Actor, ActorProcessingErr, ActorRef, Message,
    message::{BoxedDowncastErr, SerializedMessage},
};

use super::core::Core;

/// Name of the message on the wire.
const PACKET: &str = "packet";

/// A packet of a peer.
#[derive(Debug)]
pub(crate) struct GatewayMsg(pub(super) Vec<u8>);

impl Message for GatewayMsg {
    fn serializable() -> bool {
        true
    }

    fn serialize(self) -> Result<SerializedMessage, BoxedDowncastErr> {
        Ok(SerializedMessage::Cast { variant: PACKET.to_owned(), args: self.0, metadata: None })
    }

    fn deserialize(message: SerializedMessage) -> Result<Self, BoxedDowncastErr> {
        match message {
            SerializedMessage::Cast { args, .. } => Ok(Self(args)),
            SerializedMessage::Call { .. } | SerializedMessage::CallReply(..) => Err(BoxedDowncastErr),
        }
    }
}

/// Gives packets to the links.
pub(super) struct GatewayActor;

impl Actor for GatewayActor {
    type Msg = GatewayMsg;
    type State = Arc<Core>;
    type Arguments = Arc<Core>;

    async fn pre_start(
        &self,
        _myself: ActorRef<GatewayMsg>,
        core: Arc<Core>,
    ) -> Result<Arc<Core>, ActorProcessingErr> {
        Ok(core)
    }

    async fn handle(
        &self,
        _myself: ActorRef<GatewayMsg>,
        GatewayMsg(bytes): GatewayMsg,
        core: &mut Arc<Core>,
    ) -> Result<(), ActorProcessingErr> {
        core.receive(Bytes::from(bytes));
        Ok(())
    }
}
