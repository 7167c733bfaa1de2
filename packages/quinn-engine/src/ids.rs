//! Connection ids of a server: random, never given twice, and signed, so that a restarted server knows them for its own and
//! answers with a stateless reset (RFC 9000 section 10.3), and lets everything else pass in silence.

use std::time::Duration;

use quinn_proto::{ConnectionId, ConnectionIdGenerator, InvalidCid};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};

const RANDOM_BYTES: usize = 8;
const SIGNATURE_BYTES: usize = 4;
const ID_BYTES: usize = RANDOM_BYTES + SIGNATURE_BYTES;

pub struct SignedIds {
    key: hmac::Key,
    random: SystemRandom,
}

impl SignedIds {
    pub fn new(key: hmac::Key) -> Self {
        Self { key, random: SystemRandom::new() }
    }

    fn signature(&self, random: &[u8]) -> [u8; SIGNATURE_BYTES] {
        hmac::sign(&self.key, random).as_ref()[..SIGNATURE_BYTES].try_into().expect("a part of it")
    }
}

impl ConnectionIdGenerator for SignedIds {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut id = [0; ID_BYTES];
        self.random.fill(&mut id[..RANDOM_BYTES]).expect("the system has random bytes");
        let signature = self.signature(&id[..RANDOM_BYTES]);
        id[RANDOM_BYTES..].copy_from_slice(&signature);
        ConnectionId::new(&id)
    }

    fn validate(&self, id: &ConnectionId) -> Result<(), InvalidCid> {
        let (random, signature) = id.split_at_checked(RANDOM_BYTES).ok_or(InvalidCid)?;
        if signature == self.signature(random) { Ok(()) } else { Err(InvalidCid) }
    }

    fn cid_len(&self) -> usize {
        ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn ids(secret: &[u8]) -> SignedIds {
        SignedIds::new(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    #[test]
    fn whoever_has_the_key_knows_them_and_nobody_else() {
        let id = ids(b"ours").generate_cid();
        assert!(ids(b"ours").validate(&id).is_ok());
        assert!(ids(b"theirs").validate(&id).is_err());
        let mut changed = id.to_vec();
        changed[0] ^= 1;
        assert!(ids(b"ours").validate(&ConnectionId::new(&changed)).is_err());
        assert!(ids(b"ours").validate(&ConnectionId::new(&id[..4])).is_err());
    }

    #[test]
    fn none_is_given_twice() {
        let given: HashSet<Vec<u8>> = (0..100_000).map(|_| ids(b"ours").generate_cid().to_vec()).collect();
        assert_eq!(given.len(), 100_000);
    }
}
