/* An arena: memory that is all given back at once. Everything made while answering one call lives in
 * the call's arena; nobody frees a piece of it.
 *
 * An arena belongs to one thread at a time. Memory comes from mmap, never from malloc, so that a
 * long-lived small process (knarr-pod) returns to its resting size after each piece of work; a
 * daemon keeps some chunks for reuse (arena_keep_chunks). Out of memory aborts: inputs are capped,
 * so it means a bug. */
#ifndef KNARR_BASE_ARENA_H
#define KNARR_BASE_ARENA_H

#include "base/base.h"

#include <stdarg.h>
#include <string.h>

struct arena_chunk;

struct arena {
	struct arena_chunk *chunks; /* the newest first */
	char *pos, *end;            /* the free part of the newest chunk */
	size_t total_bytes;         /* what was asked of the kernel for it */
};

/* A zeroed struct arena is an empty one. */
void arena_free(struct arena *a);
#define auto_arena AUTO(arena_free) struct arena

/* Uninitialised memory, aligned for any type. Never NULL. */
void *arena_alloc(struct arena *a, size_t size) __attribute__((malloc, alloc_size(2), returns_nonnull));
void *arena_alloc0(struct arena *a, size_t size) __attribute__((malloc, alloc_size(2), returns_nonnull));
/* n × size with an overflow check, zeroed. */
void *arena_array0(struct arena *a, size_t n, size_t size) __attribute__((malloc, alloc_size(2, 3), returns_nonnull));

#define arena_new0(a, type) ((type *)arena_alloc0(a, sizeof(type)))
#define arena_newn0(a, type, n) ((type *)arena_array0(a, n, sizeof(type)))

void *arena_memdup(struct arena *a, const void *p, size_t size);
char *arena_strdup(struct arena *a, const char *s);   /* NULL in, NULL out */
char *arena_strndup(struct arena *a, const char *s, size_t len);
char *arena_printf(struct arena *a, const char *fmt, ...) PRINTF_LIKE(2, 3);
char *arena_vprintf(struct arena *a, const char *fmt, va_list ap) PRINTF_LIKE(2, 0);

/* How many freed chunks the process keeps for the next arena (default 0). Safe in every thread. */
void arena_keep_chunks(unsigned n);

#endif
