/* The bare clone3 call, for which glibc has no wrapper. proc_spawn() and kernel/clone.h are made of it. */
#ifndef KNARR_BASE_CLONE3_H
#define KNARR_BASE_CLONE3_H

#include <stddef.h>

struct clone_args;

/* Returns the child's pid or -errno, in the parent only. The child begins on another stack (or a copy),
 * so it cannot return from here: it calls fn at once, which must end in exec or _exit. */
long clone3_call(struct clone_args *args, size_t size, void (*fn)(void *), void *arg);

#endif
