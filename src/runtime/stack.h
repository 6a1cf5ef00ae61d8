/* How large a child's stack is: paths of PATH_MAX in a few frames, and what a sanitizer adds. */
#ifndef KNARR_RUNTIME_STACK_H
#define KNARR_RUNTIME_STACK_H

enum { RUNTIME_STACK_BYTES = 256 * 1024 };

#endif
