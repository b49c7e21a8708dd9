#include <stdlib.h>
#include <string.h>

#include "text.h"

static void add_bytes(text *to, const void *bytes, size_t len) {
    // In powers of two: how much is allocated follows from how much there is.
    size_t room = 64;
    while (room < to->len) room *= 2;
    if (to->ptr == NULL || to->len + len > room) {
        while (room < to->len + len) room *= 2;
        to->ptr = realloc(to->ptr, room);
        if (to->ptr == NULL) abort();
    }
    memcpy(to->ptr + to->len, bytes, len);
    to->len += len;
}

void add(text *to, const char *what) {
    add_bytes(to, what, strlen(what));
}

void add_text(text *to, text what) {
    add_bytes(to, what.ptr, what.len);
}

void add_number(text *to, uint64_t number) {
    char digits[20];
    size_t at = sizeof digits;
    do {
        digits[--at] = (char)('0' + number % 10);
    } while (number /= 10);
    add_bytes(to, digits + at, sizeof digits - at);
}

text copy(const char *of) {
    text made = {0};
    add(&made, of);
    return made;
}

bool equal(text a, const char *b) {
    return a.len == strlen(b) && memcmp(a.ptr, b, a.len) == 0;
}
