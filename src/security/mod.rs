//! Who may talk to whom, and what a third party may learn: nothing.
