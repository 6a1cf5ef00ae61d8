/* Tells systemd how knarrd is (sd_notify(3)): one datagram to the socket that $NOTIFY_SOCKET names.
 * Without one, nothing happens. Does not block. */
#ifndef KNARR_DAEMON_NOTIFY_H
#define KNARR_DAEMON_NOTIFY_H

/* "READY=1", "STOPPING=1", "STATUS=…"; several are parted by newlines. */
void notify(const char *state);

#endif
