/* Exec and attach: Kubernetes' remotecommand, versions 1 to 5. */
#include "stream/loop.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>

enum { IN, OUT, ERR, ERROR, RESIZE, CHANNELS, /* the numbers are those of the WebSocket protocols */
       NO_CHANNEL = -1, STREAMS_LIMIT_S = 30, RESIZE_MAX = 1024 };

static const char *const channel_name[CHANNELS] = { "stdin", "stdout", "stderr", "error", "resize" };

struct command {
	struct conn *conn;
	int64_t channels[CHANNELS];  /* NO_CHANNEL: not open (yet) */
	struct relay_in in;
	struct relay_out out, err;
	struct source control;
	struct session session;
	int in_copy;                 /* where a terminal's one fd serves both ways: epoll wants two */
	struct opening *opening;
	bool started, told, in_ended;
	struct buf resize;
	unsigned width, height;
};

/* --- the end ----------------------------------------------------------------------------------------- */

static int status_text(const struct command *k, int code, const struct err *failed, struct buf *b, struct err *e)
{
	bool json = k->conn->version >= 4;

	if (failed) {
		if (!json)
			return buf_addf(b, e, "%s", failed->msg);
		if (buf_addz(b, "{\"metadata\":{},\"status\":\"Failure\",\"message\":", e) < 0 ||
		    json_write_text(b, failed->msg, e) < 0)
			return -1;
		return buf_addz(b, ",\"reason\":\"InternalError\",\"details\":{\"causes\":[{\"message\":", e) < 0 ||
		       json_write_text(b, failed->msg, e) < 0 ? -1 : buf_addz(b, "}]},\"code\":500}", e);
	}
	if (code == 0)
		return json ? buf_addz(b, "{\"metadata\":{},\"status\":\"Success\"}", e) : 0;
	if (!json)
		return buf_addf(b, e, "command terminated with non-zero exit code: %d", code);
	return buf_addf(b, e, "{\"metadata\":{},\"status\":\"Failure\",\"message\":\"command terminated with non-zero exit "
			"code: %d\",\"reason\":\"NonZeroExitCode\",\"details\":{\"causes\":[{\"reason\":\"ExitCode\","
			"\"message\":\"%d\"}]}}", code, code);
}

/* The status, the end of every channel, and the client may go. */
static void tell(struct command *k, int code, const struct err *failed)
{
	struct conn *c = k->conn;
	auto_buf text = BUF(16 * 1024);
	struct err e;

	if (k->told)
		return;
	k->told = true;
	if (status_text(k, code, failed, &text, &e) < 0)
		BUG("a status exceeds its buffer");
	if (text.len && k->channels[ERROR] != NO_CHANNEL)
		conn_send(c, (uint32_t)k->channels[ERROR], text.p, text.len);
	for (int i = OUT; i <= ERROR; i++)
		if (k->channels[i] != NO_CHANNEL)
			conn_end(c, (uint32_t)k->channels[i]);
	if (k->channels[IN] != NO_CHANNEL)
		conn_end(c, (uint32_t)k->channels[IN]);
	if (k->channels[RESIZE] != NO_CHANNEL)
		conn_end(c, (uint32_t)k->channels[RESIZE]);
	relay_in_stop(&k->in);
	source_watch(c->server, &k->control, 0);
	session_end(&k->session);
	k->session = (struct session)SESSION_NONE;
	fd_close(&k->in_copy);
	conn_finish(c);
}

/* An attach's code is not its client's business: it is the container's, and kubectl asks the API for it. */
static void check_end(struct command *k)
{
	bool exec = k->conn->ticket->kind == TICKET_EXEC;
	int code = 0;
	struct err e;

	if (!k->out.last || !k->out.done || !k->err.done || k->told || k->conn->dead)
		return;
	if (session_result(&k->session, &code, &e) < 0)
		tell(k, 0, &e);
	else
		tell(k, exec ? code : 0, NULL);
}

static void out_finished(struct relay_out *r)
{
	struct command *k = r->conn->session;

	check_end(k);
}

static void control_ready(struct source *s, UNUSED uint32_t events)
{
	struct command *k = container_of(s, struct command, control);

	source_watch(k->conn->server, s, 0);
	k->out.last = k->err.last = true;
	k->conn->active_ns = clock_mono_ns();
	conn_mark_dirty(k->conn);
	if (!k->out.done)
		relay_out_pump(&k->out);
	if (!k->err.done && !k->told)
		relay_out_pump(&k->err);
	check_end(k);
}

static void in_finished(struct relay_in *r)
{
	struct command *k = r->conn->session;

	source_watch(r->conn->server, &r->source, 0);
	if (k->in_copy < 0)
		session_close_in(&k->session);
	fd_close(&k->in_copy);
}

/* --- the beginning ----------------------------------------------------------------------------------- */

static void out_begin(struct command *k, struct relay_out *r, int64_t channel, int fd)
{
	if (fd >= 0 && channel != NO_CHANNEL) {
		r->channel = (uint32_t)channel;
		relay_out_start(r, fd);
	} else {
		r->done = true;
	}
	(void)k;
}

static void in_begin(struct command *k)
{
	int fd = k->session.in;

	if (fd >= 0 && (fd == k->session.out || fd == k->session.tty)) {
		k->in_copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
		fd = k->in_copy;
	}
	relay_in_start(&k->in, fd);
}

static void opened(struct opening *o)
{
	struct command *k = o->owner;
	struct conn *c = k->conn;
	struct err ignored; /* a size that the terminal does not take is not worth the session */

	k->opening = NULL;
	conn_mark_dirty(c);
	if (o->rc < 0) {
		tell(k, 0, &o->e);
		return;
	}
	k->session = o->session;
	o->session = (struct session)SESSION_NONE;
	k->started = true;
	if (k->width && (k->width != o->width || k->height != o->height))
		(void)session_resize(&k->session, k->width, k->height, &ignored);
	in_begin(k);
	out_begin(k, &k->out, k->channels[OUT], k->session.out);
	if (!c->dead)
		out_begin(k, &k->err, k->channels[ERR], k->session.err);
	if (c->dead)
		return;
	k->control.fd = k->session.control;
	source_watch(c->server, &k->control, EPOLLIN);
}

static void start(struct command *k)
{
	k->conn->deadline_ns = 0;
	k->opening = opening_new(k->conn->server, k->conn->ticket, opened, k);
	k->opening->width = k->width;
	k->opening->height = k->height;
	opening_submit(k->opening);
}

static bool wants(const struct command *k, int channel)
{
	const struct session_wish *w = &k->conn->ticket->wish;

	switch (channel) {
	case IN:
		return w->in;
	case OUT:
		return w->out;
	case ERR:
		return w->err && !w->tty;
	case RESIZE:
		return w->tty && k->conn->version >= 3;
	default:
		return true;
	}
}

static void begin(struct conn *c)
{
	struct command *k = mem_new0(struct command);

	*k = (struct command){ .conn = c, .control = { control_ready, -1, 0 }, .session = SESSION_NONE, .in_copy = -1,
			       .resize = BUF(RESIZE_MAX) };
	c->session = k;
	relay_in_init(&k->in, c, IN, in_finished);
	relay_out_init(&k->out, c, OUT, out_finished);
	relay_out_init(&k->err, c, ERR, out_finished);
	for (int i = 0; i < CHANNELS; i++)
		k->channels[i] = c->mode == CONN_WEBSOCKET ? i : NO_CHANNEL;
	c->deadline_ns = clock_mono_ns() + STREAMS_LIMIT_S * NS_PER_S;
	if (c->mode != CONN_WEBSOCKET)
		return;
	/* An empty message tells the client that the connection stands, as Kubernetes' own servers do. */
	conn_send(c, wants(k, OUT) ? OUT : wants(k, ERR) ? ERR : ERROR, "", 0);
	if (!c->dead)
		start(k);
}

static bool stream_opened(struct conn *c, uint32_t id, const struct spdy_header *h, size_t n)
{
	struct command *k = c->session;
	struct str type = spdy_header_get(h, n, "streamtype");
	bool all = true;
	int which = NO_CHANNEL;

	for (int i = 0; i < CHANNELS && type.p; i++)
		if (str_eqz(type, channel_name[i]))
			which = i;
	if (which == NO_CHANNEL || !wants(k, which) || k->channels[which] != NO_CHANNEL || k->opening || k->started)
		return false;
	k->channels[which] = id;
	if (which == IN)
		k->in.channel = id;
	for (int i = 0; i < CHANNELS; i++)
		all = all && (!wants(k, i) || k->channels[i] != NO_CHANNEL);
	if (all)
		start(k);
	return true;
}

/* --- what the client says ---------------------------------------------------------------------------- */

struct size {
	uint32_t width, height;
};
static const struct json_field size_fields[] = {
	{ "Width", JSON_U32, offsetof(struct size, width) },
	{ "Height", JSON_U32, offsetof(struct size, height) },
	{ 0 },
};

static void resize(struct command *k, struct str text)
{
	auto_arena a = { 0 };
	struct size size = { 0 };
	struct err ignored; /* a size that is none changes nothing */

	if (json_load(&a, text, size_fields, 0, &size, &ignored) < 0 || !size.width || !size.height ||
	    size.width > UINT16_MAX || size.height > UINT16_MAX)
		return;
	k->width = size.width;
	k->height = size.height;
	if (k->started && !k->told)
		(void)session_resize(&k->session, size.width, size.height, &ignored);
}

/* Objects one after the other: {"Width":80,"Height":24} */
static void resize_came(struct command *k, const char *bytes, size_t n)
{
	char *end;
	struct err e;

	if (buf_add(&k->resize, bytes, n, &e) < 0) {
		conn_drop(k->conn);
		return;
	}
	while (k->resize.len && (end = memchr(k->resize.p, '}', k->resize.len))) {
		size_t len = (size_t)(end - k->resize.p) + 1;

		resize(k, (struct str){ k->resize.p, len });
		buf_consume(&k->resize, len);
	}
}

static void data(struct conn *c, uint32_t channel, const char *bytes, size_t n)
{
	struct command *k = c->session;

	if (k->told) {
		conn_consumed(c, channel, n);
	} else if (wants(k, IN) && k->channels[IN] == channel) {
		relay_in_put(&k->in, bytes, n);
	} else {
		if (wants(k, RESIZE) && k->channels[RESIZE] == channel)
			resize_came(k, bytes, n);
		conn_consumed(c, channel, n);
	}
}

static void ended(struct conn *c, uint32_t channel)
{
	struct command *k = c->session;

	if (!k->told && wants(k, IN) && k->channels[IN] == channel)
		relay_in_end(&k->in);
}

/* A client that no longer wants one of the outputs may have the others; without the status there is no session. */
static void was_reset(struct conn *c, uint32_t channel)
{
	struct command *k = c->session;

	if (k->told)
		return;
	if (k->channels[IN] == channel)
		relay_in_end(&k->in);
	if (k->channels[ERROR] == channel)
		conn_drop(c);
}

static void tick(UNUSED struct conn *c, UNUSED int64_t now_ns)
{
}

static void fail(struct conn *c, const struct err *why)
{
	struct command *k = c->session;

	opening_abandon(&k->opening);
	relay_out_stop(&k->out);
	relay_out_stop(&k->err);
	tell(k, 0, why);
}

static void gone(struct conn *c)
{
	struct command *k = c->session;

	opening_abandon(&k->opening);
	relay_out_stop(&k->out);
	relay_out_stop(&k->err);
	relay_in_stop(&k->in);
	source_watch(c->server, &k->control, 0);
	session_end(&k->session);
	k->session = (struct session)SESSION_NONE;
	fd_close(&k->in_copy);
	buf_free(&k->resize);
	k->told = true;
}

const struct conn_user command_user = { begin, stream_opened, data, ended, was_reset, tick, fail, gone };
