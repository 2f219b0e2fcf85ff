//! What `drumline demo` asks, and the folder it keeps.
