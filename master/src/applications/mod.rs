//! What users submit: applications, their statements, jobs, attempts and results.
mod events;
mod machine;
mod results;
