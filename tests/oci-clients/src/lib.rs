//! Other engines on top of the OCI runtime; the tests are all there is.
