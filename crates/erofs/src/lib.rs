//! EROFS images from directories, written without other programs.
