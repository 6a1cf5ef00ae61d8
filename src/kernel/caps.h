/* Capabilities: names to bits, and giving exactly these sets to a process on its way to exec. */
#ifndef KNARR_KERNEL_CAPS_H
#define KNARR_KERNEL_CAPS_H

#include "base/err.h"

struct caps {
	uint64_t bounding, effective, permitted, inheritable, ambient;
};

/* The bit of "CAP_KILL", -1: no such capability. */
int cap_by_name(const char *name);
const char *cap_name(int bit);
/* The bits of all names; names that we do not know are reported to `unknown` (may be NULL). */
uint64_t caps_by_names(char *const *names, const char **unknown);
/* Our own bounding set: nobody can give more. */
uint64_t caps_own_bounding(void);
/* All that the kernel knows: a process that enters a user namespace has them there. */
uint64_t caps_all(void);

/* For the child, in this order around its change of user. `own` is caps_own_bounding()'s answer. */
int caps_drop_bounding(uint64_t own, uint64_t keep, struct err *e);
int caps_keep_over_setuid(struct err *e);
int caps_set(const struct caps *c, struct err *e);

#endif
