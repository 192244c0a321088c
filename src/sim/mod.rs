//! A world on a virtual clock, from one seed. Nothing but tests and campaigns imports it.
//!
//! ```text
//!   agenda     what happens when
//!   flows      flows over UDP that share a link in each direction: goodput, fairness, safety
//! ```

mod agenda;
pub mod flows;
