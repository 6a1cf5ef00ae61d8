#include "stream/loop.h"

#include <errno.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { PENDING_MAX = 1 << 20, PUMPS = 4 };

/* --- from a pipe to a channel ------------------------------------------------------------------------ */

static void out_ready(struct source *s, UNUSED uint32_t events)
{
	relay_out_pump(container_of(s, struct relay_out, source));
}

void relay_out_init(struct relay_out *r, struct conn *c, uint32_t channel, void (*finished)(struct relay_out *r))
{
	*r = (struct relay_out){ .source = { out_ready, -1, 0 }, .conn = c, .channel = channel, .finished = finished };
	list_init(&r->waiting);
}

void relay_out_start(struct relay_out *r, int fd)
{
	r->source.fd = fd;
	relay_out_pump(r);
}

void relay_out_stop(struct relay_out *r)
{
	source_watch(r->conn->server, &r->source, 0);
	list_del(&r->waiting);
	r->done = true;
}

static void out_finish(struct relay_out *r)
{
	relay_out_stop(r);
	r->finished(r);
}

/* A few pieces, so that others get their turn; the last ones to the end. */
void relay_out_pump(struct relay_out *r)
{
	struct streams *s = r->conn->server;

	list_del(&r->waiting);
	for (unsigned i = 0; !r->done && !r->conn->dead && (i < PUMPS || r->last); i++) {
		size_t room = conn_room(r->conn, r->channel);
		ssize_t n;

		if (!room) {
			source_watch(s, &r->source, 0);
			list_add(&r->conn->waiting, &r->waiting);
			return;
		}
		n = read(r->source.fd, s->piece, MIN(room, sizeof(s->piece)));
		if (n > 0) {
			conn_send(r->conn, r->channel, s->piece, (size_t)n);
		} else if (n < 0 && errno == EAGAIN && !r->last) {
			break;
		} else if (n == 0 || errno != EINTR) { /* a terminal's end is EIO */
			out_finish(r);
			return;
		}
	}
	if (!r->done && !r->conn->dead)
		source_watch(s, &r->source, EPOLLIN);
}

/* --- from a channel to a pipe ------------------------------------------------------------------------ */

static void in_settle(struct relay_in *r)
{
	size_t left = r->pending.len - r->written;
	bool blocks = !r->done && left > (r->blocks ? PENDING_HIGH / 2 : PENDING_HIGH);

	if (blocks != r->blocks) {
		r->blocks = blocks;
		r->conn->blocked += blocks ? 1 : -1u;
		r->conn->read_again |= !r->conn->blocked;
		conn_mark_dirty(r->conn);
	}
	if (!left) {
		buf_free(&r->pending);
		r->pending = BUF(PENDING_MAX);
		r->written = 0;
	}
	source_watch(r->conn->server, &r->source, r->started && !r->done && left ? EPOLLOUT : 0);
}

/* Nobody reads any more, or there is no more to be read. What is left counts as read: the window is for what comes. */
static void in_finish(struct relay_in *r)
{
	size_t left = r->pending.len - r->written;

	r->done = true;
	r->written = r->pending.len;
	in_settle(r);
	if (left)
		conn_consumed(r->conn, r->channel, left);
	r->finished(r);
}

/* How many of them the pipe took; -1: nobody reads it. */
static ssize_t in_write(struct relay_in *r, const char *bytes, size_t n)
{
	size_t done = 0;

	while (done < n) {
		ssize_t rc = write(r->source.fd, bytes + done, n - done);

		if (rc < 0 && errno == EINTR)
			continue;
		if (rc < 0 && errno == EAGAIN)
			break;
		if (rc < 0)
			return -1;
		done += (size_t)rc;
	}
	return (ssize_t)done;
}

static void in_flush(struct relay_in *r)
{
	ssize_t n;

	if (!r->started || r->done)
		return;
	n = in_write(r, r->pending.p + r->written, r->pending.len - r->written);
	if (n < 0) {
		in_finish(r);
		return;
	}
	r->written += (size_t)n;
	if (n)
		conn_consumed(r->conn, r->channel, (size_t)n);
	if (r->ending && r->written == r->pending.len)
		in_finish(r);
	else
		in_settle(r);
}

static void in_ready(struct source *s, UNUSED uint32_t events)
{
	in_flush(container_of(s, struct relay_in, source));
}

void relay_in_init(struct relay_in *r, struct conn *c, uint32_t channel, void (*finished)(struct relay_in *r))
{
	*r = (struct relay_in){ .source = { in_ready, -1, 0 }, .conn = c, .channel = channel, .finished = finished,
				.pending = BUF(PENDING_MAX) };
}

void relay_in_start(struct relay_in *r, int fd)
{
	r->source.fd = fd;
	r->started = true;
	if (fd < 0)
		in_finish(r);
	else
		in_flush(r);
}

void relay_in_put(struct relay_in *r, const char *bytes, size_t n)
{
	ssize_t done = 0;
	struct err e;

	if (r->ending || r->done) {
		conn_consumed(r->conn, r->channel, n);
		return;
	}
	if (r->started && !r->pending.len)
		done = in_write(r, bytes, n);
	if (done < 0) {
		conn_consumed(r->conn, r->channel, n);
		in_finish(r);
		return;
	}
	if (done)
		conn_consumed(r->conn, r->channel, (size_t)done);
	if (r->written > PENDING_MAX / 2) {
		buf_consume(&r->pending, r->written);
		r->written = 0;
	}
	if (buf_add(&r->pending, bytes + done, n - (size_t)done, &e) < 0)
		conn_drop(r->conn);
	else
		in_settle(r);
}

void relay_in_end(struct relay_in *r)
{
	r->ending = true;
	if (!r->done)
		in_flush(r);
}

void relay_in_stop(struct relay_in *r)
{
	source_watch(r->conn->server, &r->source, 0);
	r->done = true;
	if (r->blocks)
		r->conn->blocked--;
	r->blocks = false;
	buf_free(&r->pending);
}
