/* Port-forward: each connection is a data channel and one for errors, paired by SPDY's requestID or by a WebSocket's
 * order of ports. */
#include "stream/loop.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>

enum { NO_CHANNEL = -1, PAIR_LIMIT_S = 30, REQUEST_MAX = 64 };

struct forward {
	struct list link;
	struct grave grave;
	struct conn *conn;
	int64_t data, error;         /* NO_CHANNEL: not open yet */
	char request[REQUEST_MAX];
	uint16_t port;
	int64_t pair_until_ns;
	struct relay_in in;
	struct relay_out out;
	int fd, in_fd;               /* one socket by two names: epoll wants it so */
	struct opening *opening;
	bool gone;
};

struct forwards {
	struct list all;
	size_t n;
};

static void forward_free(struct grave *g)
{
	mem_free(container_of(g, struct forward, grave));
}

/* Lets go of all that it holds; its channels are the caller's business. */
static void forward_gone(struct forward *f)
{
	struct forwards *all = f->conn->session;

	if (f->gone)
		return;
	f->gone = true;
	opening_abandon(&f->opening);
	relay_in_stop(&f->in);
	relay_out_stop(&f->out);
	fd_close(&f->fd);
	fd_close(&f->in_fd);
	list_del(&f->link);
	all->n--;
	grave_add(f->conn->server, &f->grave, forward_free);
}

static void forward_close(struct forward *f)
{
	struct conn *c = f->conn;

	if (f->gone)
		return;
	if (f->data != NO_CHANNEL)
		conn_end(c, (uint32_t)f->data);
	if (f->error != NO_CHANNEL)
		conn_end(c, (uint32_t)f->error);
	forward_gone(f);
	/* A WebSocket's channels are as many as there are ports: with the last one it is all over. */
	if (c->mode == CONN_WEBSOCKET && !((struct forwards *)c->session)->n)
		conn_finish(c);
}

static void check_done(struct forward *f)
{
	/* A WebSocket's channel has no end of its own: when the pod has closed, it is over. */
	if (f->out.done && (f->in.done || f->conn->mode == CONN_WEBSOCKET))
		forward_close(f);
}

static void out_finished(struct relay_out *r)
{
	struct forward *f = container_of(r, struct forward, out);

	conn_end(f->conn, (uint32_t)f->data);
	if (!f->gone)
		check_done(f);
}

static void in_finished(struct relay_in *r)
{
	struct forward *f = container_of(r, struct forward, in);

	if (f->gone || f->fd < 0)
		return;
	(void)shutdown(f->fd, SHUT_WR); /* the pod's side may be gone: then reading tells */
	check_done(f);
}

static void connected(struct opening *o)
{
	struct forward *f = o->owner;
	struct conn *c = f->conn;

	f->opening = NULL;
	conn_mark_dirty(c);
	if (o->rc == 0) {
		f->fd = fd_take(&o->fd);
		f->in_fd = fcntl(f->fd, F_DUPFD_CLOEXEC, 3);
		if (f->in_fd < 0)
			o->rc = err_sys(&o->e, errno, "port %u", f->port);
	}
	if (o->rc < 0) {
		conn_send(c, (uint32_t)f->error, o->e.msg, strlen(o->e.msg));
		if (!c->dead)
			forward_close(f);
		return;
	}
	relay_out_start(&f->out, f->fd);
	if (!f->gone && !c->dead)
		relay_in_start(&f->in, f->in_fd);
}

static void forward_start(struct forward *f)
{
	f->pair_until_ns = 0;
	f->opening = opening_new(f->conn->server, f->conn->ticket, connected, f);
	f->opening->port = f->port;
	opening_submit(f->opening);
}

static struct forward *forward_new(struct conn *c, struct str request, uint16_t port)
{
	struct forwards *all = c->session;
	struct forward *f = mem_new0(struct forward);

	*f = (struct forward){ .conn = c, .data = NO_CHANNEL, .error = NO_CHANNEL, .port = port, .fd = -1, .in_fd = -1,
			       .pair_until_ns = clock_mono_ns() + PAIR_LIMIT_S * NS_PER_S };
	memcpy(f->request, request.p, request.len);
	relay_in_init(&f->in, c, 0, in_finished);
	relay_out_init(&f->out, c, 0, out_finished);
	list_add(&all->all, &f->link);
	all->n++;
	return f;
}

static struct forward *forward_of(const struct conn *c, uint32_t channel)
{
	const struct forwards *all = c->session;

	list_for_each(f, &all->all, struct forward, link)
		if (f->data == channel || f->error == channel)
			return f;
	return NULL;
}

static void begin(struct conn *c)
{
	const struct stream_ports *ports = &c->ticket->ports;
	struct forwards *all = mem_new0(struct forwards);

	list_init(&all->all);
	c->session = all;
	if (c->mode != CONN_WEBSOCKET)
		return;
	/* Each channel's first message is its port, the low byte first. */
	for (size_t i = 0; i < ports->nports && !c->dead; i++) {
		const char port[] = { (char)ports->ports[i], (char)(ports->ports[i] >> 8) };
		struct forward *f = forward_new(c, STR(""), ports->ports[i]);

		f->data = (int64_t)(2 * i);
		f->error = f->data + 1;
		f->in.channel = f->out.channel = (uint32_t)f->data;
		conn_send(c, (uint32_t)f->data, port, sizeof(port));
		conn_send(c, (uint32_t)f->error, port, sizeof(port));
		if (!c->dead)
			forward_start(f);
	}
	if (!ports->nports)
		conn_finish(c);
}

/* The request that a stream belongs to. Clients of old name none: they open the error stream, then the data stream. */
static struct str request_of(uint32_t id, bool is_data, struct str given, char text[REQUEST_MAX])
{
	if (given.p && given.len < REQUEST_MAX)
		return given;
	(void)snprintf(text, REQUEST_MAX, "%u", is_data ? id - 2 : id);
	return str_of(text);
}

static bool opened(struct conn *c, uint32_t id, const struct spdy_header *h, size_t n)
{
	struct forwards *all = c->session;
	struct str type = spdy_header_get(h, n, "streamtype"), port = spdy_header_get(h, n, "port");
	bool is_data = type.p && str_eqz(type, "data");
	char text[REQUEST_MAX];
	struct forward *f = NULL;
	struct str request;
	uint64_t number;
	struct err ignored; /* the refusal says enough */

	if (!type.p || (!is_data && !str_eqz(type, "error")) || !port.p || str_to_u64(port, &number, &ignored) < 0 ||
	    number < 1 || number > UINT16_MAX)
		return false;
	request = request_of(id, is_data, spdy_header_get(h, n, "requestid"), text);
	list_for_each(each, &all->all, struct forward, link)
		if (str_eqz(request, each->request) && each->pair_until_ns)
			f = each;
	if (f && (f->port != number || (is_data ? f->data : f->error) != NO_CHANNEL))
		return false;
	if (!f && all->n >= FORWARDS_MAX)
		return false;
	if (!f)
		f = forward_new(c, request, (uint16_t)number);
	if (is_data)
		f->data = f->in.channel = f->out.channel = id;
	else
		f->error = id;
	if (f->data != NO_CHANNEL && f->error != NO_CHANNEL)
		forward_start(f);
	return true;
}

static void data(struct conn *c, uint32_t channel, const char *bytes, size_t n)
{
	struct forward *f = forward_of(c, channel);

	if (f && f->data == channel)
		relay_in_put(&f->in, bytes, n);
	else
		conn_consumed(c, channel, n);
}

static void ended(struct conn *c, uint32_t channel)
{
	struct forward *f = forward_of(c, channel);

	if (f && f->data == channel)
		relay_in_end(&f->in);
}

/* The client wants no more of this connection, of the others it does. */
static void was_reset(struct conn *c, uint32_t channel)
{
	struct forward *f = forward_of(c, channel);

	if (f && f->data == channel)
		forward_close(f);
}

static void tick(struct conn *c, int64_t now_ns)
{
	struct forwards *all = c->session;

	list_for_each_safe(f, &all->all, struct forward, link) {
		if (!f->pair_until_ns || now_ns < f->pair_until_ns)
			continue;
		if (f->data != NO_CHANNEL)
			conn_reset(c, (uint32_t)f->data);
		if (f->error != NO_CHANNEL)
			conn_reset(c, (uint32_t)f->error);
		if (c->dead)
			return;
		forward_gone(f);
	}
}

static void fail(struct conn *c, const struct err *why)
{
	struct forwards *all = c->session;

	while (!c->dead && !list_is_empty(&all->all)) {
		struct forward *f = container_of(all->all.next, struct forward, link);

		if (f->error != NO_CHANNEL)
			conn_send(c, (uint32_t)f->error, why->msg, strlen(why->msg));
		forward_close(f);
	}
	conn_finish(c);
}

static void gone(struct conn *c)
{
	struct forwards *all = c->session;

	while (!list_is_empty(&all->all))
		forward_gone(container_of(all->all.next, struct forward, link));
}

const struct conn_user forward_user = { begin, opened, data, ended, was_reset, tick, fail, gone };
