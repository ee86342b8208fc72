//! Whether an image may be used: the policy file, signatures, and the keys of encrypted layers.
