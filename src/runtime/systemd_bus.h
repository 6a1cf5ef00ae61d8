/* One connection to a systemd manager: the system's, by the system bus or, where there is none and we are root, by its
 * private socket; or the user's own. Closed by systemd_bus_close(). */
#ifndef KNARR_RUNTIME_SYSTEMD_BUS_H
#define KNARR_RUNTIME_SYSTEMD_BUS_H

#include "base/call.h"
#include "wire/dbus.h"

#define SYSTEMD_NAME "org.freedesktop.systemd1"
#define SYSTEMD_PATH "/org/freedesktop/systemd1"
#define SYSTEMD_MANAGER "org.freedesktop.systemd1.Manager"

enum { SYSTEMD_JOBS_SEEN = 32 };

struct systemd_bus {
	struct arena arena;     /* of the messages read */
	int fd;
	bool in;                /* the server took our credentials */
	struct buf out, got;
	uint32_t serial;        /* of the last call written */
	struct { const char *job, *result; } removed[SYSTEMD_JOBS_SEEN]; /* jobs that ended, the latest ones */
	size_t nremoved;
};

/* Connects, and puts what must come first before the first call; nothing is waited for. */
int systemd_bus_open(struct call *c, bool user, struct systemd_bus *out, struct err *e);
void systemd_bus_close(struct systemd_bus *b);
#define auto_systemd_bus AUTO(systemd_bus_close) struct systemd_bus

/* A call of the manager's: systemd_bus_call(), the values, systemd_bus_ask() with the answer, in b's arena. An answer
 * that is an error is an error that names `what`: UnitExists ERR_EXISTS, NoSuchUnit ERR_NOT_FOUND, AccessDenied
 * ERR_DENIED. */
void systemd_bus_call(struct systemd_bus *b, struct dbus_writer *w, const char *member, const char *signature);
int systemd_bus_ask(struct call *c, struct systemd_bus *b, struct dbus_writer *w, const char *what,
		    struct dbus_message *out, struct err *e);
/* The same, of the interface org.freedesktop.DBus.Properties: a text. */
int systemd_bus_property(struct call *c, struct systemd_bus *b, const char *name, const char **out, struct err *e);
/* Until the job that the answer names is over; -1 where its result is not "done". */
int systemd_bus_job(struct call *c, struct systemd_bus *b, const struct dbus_message *answer, const char *what,
		    struct err *e);

#endif
