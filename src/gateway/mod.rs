//! The HTTP gateway: answers `202 Accepted` once a message is durable, and tells how it ended.
