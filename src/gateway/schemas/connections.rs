//! Live connections, as operators see them.

use utoipa::ToSchema;

/// The live connections of all nodes.
#[derive(ToSchema)]
pub(crate) struct ConnectionsView {
    /// What each node has.
    nodes: Vec<NodeConnectionsView>,
    /// Nodes that did not answer within a second.
    silent: Vec<u64>,
    /// The channels with most connections, most first, at most 200.
    channels: Vec<ChannelConnectionsView>,
    /// If one channel was asked for, its connections: of each node the first 200.
    connections: Vec<ConnectionView>,
}

/// What one node has.
#[derive(ToSchema)]
pub(crate) struct NodeConnectionsView {
    /// The node's number.
    node: u64,
    /// Open WebSockets.
    websockets: u64,
    /// Open event streams.
    streams: u64,
    /// Followers within the program.
    programs: u64,
    /// Channels that it follows.
    channels: u64,
}

/// How many connections a channel has.
#[derive(ToSchema)]
pub(crate) struct ChannelConnectionsView {
    channel: String,
    connections: u64,
}

/// One connection.
#[derive(ToSchema)]
pub(crate) struct ConnectionView {
    /// Its id, to disconnect it by.
    id: String,
    /// The node that has it.
    node: u64,
    transport: TransportView,
    /// When it was opened, in milliseconds since the Unix epoch.
    since: i64,
    /// Events it was sent.
    sent: u64,
    /// Bytes of events that wait for it.
    queued: u64,
}

/// How events get to a client.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub(crate) enum TransportView {
    Websocket,
    Events,
    Program,
}

/// How many connections were closed.
#[derive(ToSchema)]
pub(crate) struct DisconnectedView {
    closed: u64,
}
