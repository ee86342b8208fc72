//! Where the node keeps what it must remember: durable metadata in one redb file ([`meta`]), small
//! atomic record files for what ends with the machine ([`record`]), and the lock that keeps a second
//! daemon away ([`lock`]). It knows no image, no pod and no network: values are whatever serde takes.

pub mod lock;
pub mod meta;
pub mod record;
