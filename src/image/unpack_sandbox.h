/* The cell in which knarr-unpack meets hostile bytes: a mount namespace that holds nothing but the
 * layer's folder as its root (nosuid, nodev, noexec), network, IPC and UTS namespaces of its own
 * (the PID namespace comes from proc_spawn), six capabilities (CHOWN, DAC_OVERRIDE, FOWNER, FSETID,
 * MKNOD, SETFCAP), no new privileges, Landlock where the kernel has it (nothing may be executed,
 * no network), and a seccomp filter of the calls that unpacking needs; any other "does not exist".
 * For a program with one thread. */
#ifndef KNARR_IMAGE_UNPACK_SANDBOX_H
#define KNARR_IMAGE_UNPACK_SANDBOX_H

#include "base/err.h"

/* *dest_fd is closed and becomes the new root's. All fds but `keep` (0, 1, 2 too) are closed. */
int unpack_sandbox_enter(int *dest_fd, int keep, struct err *e);

#endif
