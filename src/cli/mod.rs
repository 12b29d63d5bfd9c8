//! The command line: `greenroom serve | send | request | dead | audit | config check | doctor`, one command a file.
