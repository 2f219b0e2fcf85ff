//! drumline-master
