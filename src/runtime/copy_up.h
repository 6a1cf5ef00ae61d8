/* What a tmpfs with the option tmpcopyup begins with: a copy of the folder that it hides. */
#ifndef KNARR_RUNTIME_COPY_UP_H
#define KNARR_RUNTIME_COPY_UP_H

#include "base/err.h"

/* Copies what is in the folder `from` (O_PATH does) into `to`, which is empty: files, folders, links, fifos and
 * sockets with mode and owner (as far as both are the caller's to give). Devices are an
 * error of mknod's. Never follows a link. System calls and the stack only. ERR_EXHAUSTED: deeper than 24 folders. */
int copy_folder(int from, int to, struct err *e);

#endif
