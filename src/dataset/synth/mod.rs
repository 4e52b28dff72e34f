//! `synth`: captures generated from a seed, with real header layouts, for demonstrations, scale and
//! faults. Everything after it goes through the same path as real captures.
