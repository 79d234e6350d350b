//! Which of two streams to the same life of a peer stays. Both sides judge alike.

use crate::cluster::{identity::NodeId, transport::Refusal};

/// The stream that is there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    /// Whether the peer dialled it.
    pub(super) is_server: bool,
    /// How long it has stood, in microseconds.
    pub(super) age_us: u64,
}

/// Whether a new stream takes the place of `standing`; `young_us` is how long two dials may have crossed each other.
///
/// The peer dials only when it has no stream that it trusts, so what it dials wins over what stood for long: that one
/// is half open. What we dial never does. Two dials that crossed: the one of the node that sorts last stays.
pub(super) fn judge(
    standing: Standing,
    is_server: bool,
    me: &NodeId,
    peer: &NodeId,
    young_us: u64,
) -> Result<(), Refusal> {
    let crossed = standing.is_server != is_server && standing.age_us < young_us;
    let wins = if crossed { is_server == (peer > me) } else { is_server };
    if wins { Ok(()) } else { Err(Refusal::Duplicate) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::identity::{NodeIncarnation, NodeName};

    fn node(name: &str) -> NodeId {
        NodeId { name: NodeName::new(name).unwrap(), incarnation: NodeIncarnation { life: 1, nonce: 1 } }
    }

    #[test]
    fn of_two_dials_that_crossed_both_sides_keep_the_same() {
        let (a, b) = (node("a"), node("b"));
        for age_us in [0, 99] {
            // Stream one was dialled by a, stream two by b; each side sees them in either order.
            let one_at_a = judge(Standing { is_server: true, age_us }, false, &a, &b, 100).is_ok();
            let two_at_a = judge(Standing { is_server: false, age_us }, true, &a, &b, 100).is_ok();
            let one_at_b = judge(Standing { is_server: false, age_us }, true, &b, &a, 100).is_ok();
            let two_at_b = judge(Standing { is_server: true, age_us }, false, &b, &a, 100).is_ok();
            assert_eq!((one_at_a, one_at_b), (false, false));
            assert_eq!((two_at_a, two_at_b), (true, true));
        }
    }

    #[test]
    fn a_peer_that_dials_again_replaces_its_half_open_stream_and_we_never_replace_ours() {
        let (a, b) = (node("a"), node("b"));
        for is_server in [true, false] {
            let old = Standing { is_server, age_us: 1_000 };
            assert_eq!(judge(old, true, &a, &b, 100), Ok(()));
            assert_eq!(judge(old, false, &a, &b, 100), Err(Refusal::Duplicate));
        }
    }
}
