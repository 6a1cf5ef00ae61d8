/* What container_spec_build() must know and cannot read itself: the machine, the image's users, devices,
 * and the file of a seccomp profile. These functions read files and block on the disk. */
#ifndef KNARR_POD_CONTAINER_FACTS_H
#define KNARR_POD_CONTAINER_FACTS_H

#include "pod/container_spec.h"

/* Reads the machine, once at start. Texts live in the arena. */
int container_facts_read(struct arena *a, struct container_facts *out, struct err *e);

/* Fills in->passwd and in->group from the root file system, which no link leads out of. Files that are
 * not there stay p == NULL; more than 1 MiB of either is ERR_EXHAUSTED. */
int container_facts_users(struct arena *a, int rootfd, struct container_spec_input *in, struct err *e);

/* Fills in->devices: what the wish's devices are, each a device, a link to one or a folder of them
 * (ERR_NOT_FOUND, ERR_INVALID); and for a privileged container in->host_devices: all in /dev but
 * terminals and what every container has of its own. */
int container_facts_devices(struct arena *a, struct container_spec_input *in, struct err *e);

/* Fills in->seccomp with the text of the profile that a Localhost wish names: an absolute path, or one
 * below `dir`. */
int container_facts_seccomp(struct arena *a, const char *dir, struct container_spec_input *in, struct err *e);

#endif
