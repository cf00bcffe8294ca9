//! What an object means: kinds, defaults, validation, patches, selectors, quantities, tables.
//!
//! Pure: no IO, no clock, no randomness, no async. Knows every Kubernetes kind; must not know how
//! objects are stored, served or acted upon.
