//! Formatter: a table for people
