//! The binary as users and scripts meet it: outputs, names and exit codes are a contract.

mod entities;
mod flags;
mod held;
mod http;
mod interrupted;
mod names;
mod nodes;
mod placed;
mod policies;
mod program;
mod queues;
mod refusals;
mod runs;
mod shell;
mod traces;
