// Text that grows. The contract has no terminating zeros, and what is returned to the host must come from malloc.
//
// printf and its like are not to be had: wasi-libc writes files with the same code, and a module has no files.
#pragma once

#include "guest.h"

typedef guest_string_t text;

// These add to a text that began as `{0}` or as a copy, and not to one from the bindings.
void add(text *to, const char *what);
void add_text(text *to, text what);
void add_number(text *to, uint64_t number);

/// A copy of a C string.
text copy(const char *of);

bool equal(text a, const char *b);
