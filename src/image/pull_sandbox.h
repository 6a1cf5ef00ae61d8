/* What knarr-pull gives up before it talks to the network: root, new privileges, writing and executing
 * any file (Landlock, where the kernel has it), the system calls of those who break out. Its files and
 * pipes come open from knarrd. For a program that has one thread yet. */
#ifndef KNARR_IMAGE_PULL_SANDBOX_H
#define KNARR_IMAGE_PULL_SANDBOX_H

#include "base/err.h"

int pull_sandbox_enter(struct err *e);

#endif
