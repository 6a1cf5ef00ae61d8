#include "runtime/systemd_bus.h"

#include "base/fd.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { READ_BYTES = 4096 };

static const char *const system_bus = "unix:path=/run/dbus/system_bus_socket";
static const char *const private_socket = "unix:path=/run/systemd/private";
static const char *const job_rule =
	"type='signal',sender='" SYSTEMD_NAME "',interface='" SYSTEMD_MANAGER "',member='JobRemoved'";

/* --- connecting ------------------------------------------------------------------------------------ */

static int connect_to(const char *address, struct systemd_bus *b, struct err *e)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	struct dbus_address to;
	auto_fd int fd = -1;
	size_t n;

	if (dbus_address_read(&b->arena, address, &to, e) < 0)
		return -1;
	n = strlen(to.path);
	if (!n || n + 1 >= sizeof(at.sun_path))
		return err_set(e, ERR_INVALID, "D-Bus address \"%.200s\": the socket's path is too long", address);
	memcpy(at.sun_path + to.abstract, to.path, n);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_sys(e, errno, "socket");
	if (connect(fd, (struct sockaddr *)&at, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n + 1)) < 0) {
		(void)err_sys(e, errno, "connect to systemd at %s", to.path);
		return errno == EACCES || errno == EPERM ? -1 : err_kind_to(e, ERR_UNAVAILABLE);
	}
	b->fd = fd_take(&fd);
	return 0;
}

static int connect_user(struct systemd_bus *b, bool *direct, struct err *e)
{
	const char *bus = getenv("DBUS_SESSION_BUS_ADDRESS"), *run = getenv("XDG_RUNTIME_DIR");
	struct err ignored;

	if (!str_is_empty(bus))
		return connect_to(bus, b, e);
	if (str_is_empty(run))
		return err_set(e, ERR_UNAVAILABLE, "the user's systemd cannot be reached: neither "
			       "DBUS_SESSION_BUS_ADDRESS nor XDG_RUNTIME_DIR is set");
	if (connect_to(arena_printf(&b->arena, "unix:path=%s/bus", run), b, e) == 0)
		return 0;
	*direct = true;
	return connect_to(arena_printf(&b->arena, "unix:path=%s/systemd/private", run), b, &ignored);
}

static int connect_system(struct systemd_bus *b, bool *direct, struct err *e)
{
	const char *bus = getenv("DBUS_SYSTEM_BUS_ADDRESS");
	struct err ignored;

	if (!str_is_empty(bus))
		return connect_to(bus, b, e);
	if (connect_to(system_bus, b, e) == 0)
		return 0;
	*direct = true;
	return geteuid() == 0 ? connect_to(private_socket, b, &ignored) : -1;
}

static int first_call(struct systemd_bus *b, const char *member, const char *text, struct err *e)
{
	const struct dbus_call call = { "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", member,
					text ? "s" : "" };
	struct dbus_writer w;

	dbus_write_begin(&w, &b->out, ++b->serial, &call);
	if (text)
		dbus_write_text(&w, text);
	return dbus_write_end(&w, e);
}

int systemd_bus_open(struct call *c, bool user, struct systemd_bus *out, struct err *e)
{
	struct systemd_bus b = { .fd = -1, .out = BUF(DBUS_MESSAGE_MAX), .got = BUF(2 * DBUS_MESSAGE_MAX) };
	static const char hello[] = DBUS_HELLO_BYTES;
	bool direct = false;
	struct dbus_writer w;

	if (call_check(c, e) < 0)
		return -1;
	if ((user ? connect_user : connect_system)(&b, &direct, e) < 0 ||
	    fd_write_all(b.fd, hello, sizeof(hello) - 1, e) < 0 ||
	    (!direct && (first_call(&b, "Hello", NULL, e) < 0 || first_call(&b, "AddMatch", job_rule, e) < 0))) {
		systemd_bus_close(&b);
		return -1;
	}
	systemd_bus_call(&b, &w, "Subscribe", "");
	if (dbus_write_end(&w, e) < 0) {
		systemd_bus_close(&b);
		return -1;
	}
	*out = b;
	return 0;
}

void systemd_bus_close(struct systemd_bus *b)
{
	fd_close(&b->fd);
	buf_free(&b->out);
	buf_free(&b->got);
	arena_free(&b->arena);
}

/* --- messages -------------------------------------------------------------------------------------- */

static int flush(struct call *c, struct systemd_bus *b, struct err *e)
{
	while (b->out.len) {
		ssize_t n = send(b->fd, b->out.p, b->out.len, MSG_NOSIGNAL);

		if (n >= 0)
			buf_consume(&b->out, (size_t)n);
		else if (errno == EAGAIN && io_wait(c, b->fd, POLLOUT, e) < 0)
			return -1;
		else if (errno != EAGAIN && errno != EINTR)
			return err_sys(e, errno, "write to systemd");
	}
	return 0;
}

static int read_more(struct call *c, struct systemd_bus *b, struct err *e)
{
	ssize_t n;

	if (buf_reserve(&b->got, READ_BYTES, e) < 0 || io_wait(c, b->fd, POLLIN, e) < 0)
		return -1;
	n = recv(b->fd, b->got.p + b->got.len, READ_BYTES, 0);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : err_sys(e, errno, "read from systemd");
	if (n == 0)
		return err_set(e, ERR_UNAVAILABLE, "systemd closed the connection");
	b->got.len += (size_t)n;
	return 0;
}

static void note_job(struct systemd_bus *b, const struct dbus_message *m)
{
	struct dbus_reader r = dbus_body(m);
	const char *job, *unit, *result;
	struct err ignored;
	uint32_t id;
	size_t i = b->nremoved++ % SYSTEMD_JOBS_SEEN;

	if (dbus_read_u32(&r, &id, &ignored) == 0 && dbus_read_text(&r, &job, &ignored) == 0 &&
	    dbus_read_text(&r, &unit, &ignored) == 0 && dbus_read_text(&r, &result, &ignored) == 0) {
		b->removed[i].job = job;
		b->removed[i].result = result;
	}
}

/* The next message, whatever it is; a job's end is noted. */
static int next_message(struct call *c, struct systemd_bus *b, struct dbus_message *out, struct err *e)
{
	for (;;) {
		size_t used = 0;

		if (!b->in && dbus_auth_read(buf_str(&b->got), &used, &b->in, e) < 0)
			return -1;
		buf_consume(&b->got, used);
		used = 0;
		if (b->in && dbus_message_read(&b->arena, buf_str(&b->got), out, &used, e) < 0)
			return -1;
		if (used) {
			buf_consume(&b->got, used);
			break;
		}
		if (read_more(c, b, e) < 0)
			return -1;
	}
	if (out->type == DBUS_SIGNAL && streq(out->member, "JobRemoved") && streq(out->interface, SYSTEMD_MANAGER))
		note_job(b, out);
	return 0;
}

static int said(const struct dbus_message *m, const char *what, struct err *e)
{
	static const struct {
		const char *name;
		enum err_kind kind;
	} kinds[] = {
		{ SYSTEMD_NAME ".UnitExists", ERR_EXISTS }, { SYSTEMD_NAME ".NoSuchUnit", ERR_NOT_FOUND },
		{ "org.freedesktop.DBus.Error.AccessDenied", ERR_DENIED },
		{ "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired", ERR_DENIED },
		{ "org.freedesktop.DBus.Error.ServiceUnknown", ERR_UNAVAILABLE },
		{ "org.freedesktop.DBus.Error.NameHasNoOwner", ERR_UNAVAILABLE },
		{ "org.freedesktop.DBus.Error.InvalidArgs", ERR_INVALID },
		{ "org.freedesktop.DBus.Error.PropertyReadOnly", ERR_INVALID },
	};
	struct dbus_reader r = dbus_body(m);
	enum err_kind kind = ERR_SYSTEM;
	const char *text = "";
	struct err ignored;

	(void)dbus_read_text(&r, &text, &ignored); /* an error may have no text */
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (streq(m->error, kinds[i].name))
			kind = kinds[i].kind;
	return err_set(e, kind, "systemd: %s: %s (%s)", what, text, m->error);
}

void systemd_bus_call(struct systemd_bus *b, struct dbus_writer *w, const char *member, const char *signature)
{
	const struct dbus_call call = { SYSTEMD_NAME, SYSTEMD_PATH, SYSTEMD_MANAGER, member, signature };

	dbus_write_begin(w, &b->out, ++b->serial, &call);
}

int systemd_bus_ask(struct call *c, struct systemd_bus *b, struct dbus_writer *w, const char *what,
		    struct dbus_message *out, struct err *e)
{
	uint32_t mine = b->serial;
	struct dbus_message m;

	if (dbus_write_end(w, e) < 0)
		return err_in(e, "%s", what);
	if (flush(c, b, e) < 0)
		return err_in(e, "systemd: %s", what);
	for (;;) {
		if (next_message(c, b, &m, e) < 0)
			return err_in(e, "systemd: %s", what);
		/* An error to what came before (Hello, AddMatch, Subscribe) would leave us waiting for a signal. */
		if (m.type == DBUS_ERROR && m.reply_to <= mine)
			return said(&m, what, e);
		if (m.type == DBUS_REPLY && m.reply_to == mine)
			break;
	}
	*out = m;
	return 0;
}

int systemd_bus_property(struct call *c, struct systemd_bus *b, const char *name, const char **out, struct err *e)
{
	const struct dbus_call call = { SYSTEMD_NAME, SYSTEMD_PATH, "org.freedesktop.DBus.Properties", "Get", "ss" };
	struct dbus_message answer;
	struct dbus_reader r, in;
	struct dbus_writer w;

	dbus_write_begin(&w, &b->out, ++b->serial, &call);
	dbus_write_text(&w, SYSTEMD_MANAGER);
	dbus_write_text(&w, name);
	if (systemd_bus_ask(c, b, &w, name, &answer, e) < 0)
		return -1;
	r = dbus_body(&answer);
	return dbus_read_variant(&r, &in, e) < 0 ? -1 : dbus_read_text(&in, out, e);
}

static const char *result_of(const struct systemd_bus *b, const char *job)
{
	for (size_t i = 0; i < SYSTEMD_JOBS_SEEN; i++)
		if (b->removed[i].job && streq(b->removed[i].job, job))
			return b->removed[i].result;
	return NULL;
}

int systemd_bus_job(struct call *c, struct systemd_bus *b, const struct dbus_message *answer, const char *what,
		    struct err *e)
{
	struct dbus_reader r = dbus_body(answer);
	const char *job, *result;
	struct dbus_message m;

	if (dbus_read_text(&r, &job, e) < 0)
		return err_in(e, "systemd: %s", what);
	while (!(result = result_of(b, job)))
		if (next_message(c, b, &m, e) < 0)
			return err_in(e, "systemd: %s: wait for its job", what);
	if (!streq(result, "done"))
		return err_set(e, ERR_SYSTEM, "systemd: %s: its job ended as \"%s\"", what, result);
	return 0;
}
