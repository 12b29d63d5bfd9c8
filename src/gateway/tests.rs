//! The gateway on a node that accepts nothing: everything that needs no actor.
