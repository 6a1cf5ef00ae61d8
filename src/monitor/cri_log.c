#include "monitor/cri_log.h"

#include "base/fd.h"

#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

enum { IOVS = 384, HEADER_MAX = CLOCK_TEXT_MAX + 16, NOTICE_MAX = HEADER_MAX + 160 };

/* Lines gathered for one writev. A piece that ends a line ends in '\n', and no other does: that is
 * how a short write is traced back to the last whole line. */
struct batch {
	struct cri_log *log;
	struct iovec iov[IOVS];
	int count;
	char full[HEADER_MAX], partial[HEADER_MAX]; /* the headers of this batch */
	size_t header_len;
	char notice[NOTICE_MAX];
};

static char newline[] = "\n";

static void batch_begin(struct batch *b, struct cri_log *log, const char *stream, int64_t wall_ns)
{
	char when[CLOCK_TEXT_MAX];

	b->log = log;
	b->count = 0;
	clock_format_rfc3339(wall_ns, when);
	b->header_len = (size_t)snprintf(b->full, sizeof(b->full), "%s %s F ", when, stream);
	(void)snprintf(b->partial, sizeof(b->partial), "%s %s P ", when, stream);
	if (log->dropped) {
		int n = snprintf(b->notice, sizeof(b->notice),
				 "%s stderr F knarr: %llu lines of this log were dropped: %s\n", when,
				 (unsigned long long)log->dropped,
				 err_errno_text(log->dropped_errno));

		b->iov[b->count++] = (struct iovec){ b->notice, (size_t)n };
	}
}

static bool ends_line(const struct iovec *v)
{
	return ((const char *)v->iov_base)[v->iov_len - 1] == '\n';
}

/* Writes all of the batch, as far as the file takes it. Returns the bytes written; *error is 0 when
 * that is everything. */
static size_t batch_push(struct batch *b, int *error)
{
	struct iovec rest[IOVS];
	int at = 0;
	size_t total = 0;

	memcpy(rest, b->iov, sizeof(rest[0]) * (size_t)b->count);
	*error = 0;
	while (at < b->count) {
		ssize_t w = writev(b->log->fd, rest + at, b->count - at);

		if (w < 0 && errno == EINTR)
			continue;
		if (w <= 0) {
			*error = w < 0 ? errno : EIO;
			return total;
		}
		total += (size_t)w;
		while (w > 0 && (size_t)w >= rest[at].iov_len)
			w -= (ssize_t)rest[at++].iov_len;
		if (w > 0) {
			rest[at].iov_base = (char *)rest[at].iov_base + w;
			rest[at].iov_len -= (size_t)w;
		}
	}
	return total;
}

/* Takes back the piece of a line that was written, and counts what was not. */
static void batch_failed(struct batch *b, size_t written, int error)
{
	size_t at = 0, whole = 0;
	bool noticed = b->log->dropped == 0;
	uint64_t lost = 0;

	for (int i = 0; i < b->count; i++) {
		bool notice = b->iov[i].iov_base == b->notice;

		at += b->iov[i].iov_len;
		if (!ends_line(&b->iov[i]))
			continue;
		if (at <= written) {
			whole = at;
			noticed |= notice;
		} else if (!notice) {
			lost++;
		}
	}
	if (written > whole) {
		off_t end = lseek(b->log->fd, 0, SEEK_CUR);

		if (end >= (off_t)(written - whole)) /* a pipe cannot take it back */
			(void)!ftruncate(b->log->fd, end - (off_t)(written - whole));
	}
	b->log->dropped = noticed ? lost : b->log->dropped + lost;
	b->log->dropped_errno = error;
}

static void batch_write(struct batch *b)
{
	size_t written;
	int error;

	if (!b->count || b->log->fd < 0)
		return;
	written = batch_push(b, &error);
	if (error)
		batch_failed(b, written, error);
	else
		b->log->dropped = 0;
	b->count = 0;
}

static void batch_add(struct batch *b, const void *p, size_t n)
{
	if (n)
		b->iov[b->count++] = (struct iovec){ (void *)p, n };
}

/* One record: header, what was carried, the piece, and a newline where the piece has none. The
 * carried bytes are given up: they must be written before the carry is used again. */
static void batch_line(struct batch *b, struct cri_log_stream *s, const char *header, struct str piece,
		       bool has_newline)
{
	bool carried = s->carried != 0;

	if (b->count > IOVS - 4)
		batch_write(b);
	batch_add(b, header, b->header_len);
	batch_add(b, s->carry, s->carried);
	batch_add(b, piece.p, piece.len);
	if (!has_newline)
		batch_add(b, newline, 1);
	s->carried = 0;
	if (carried)
		batch_write(b);
}

static void carry_free(struct cri_log_stream *s)
{
	if (s->carry)
		(void)munmap(s->carry, CRI_LOG_LINE_MAX);
	s->carry = NULL;
	s->carried = 0;
}

/* Keeps the beginning of a line. Without memory for that it becomes a record of its own. */
static void carry_add(struct batch *b, struct cri_log_stream *s, struct str piece)
{
	if (!s->carry) {
		void *p = mmap(NULL, CRI_LOG_LINE_MAX, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (p == MAP_FAILED) {
			batch_line(b, s, b->partial, piece, false);
			return;
		}
		s->carry = p;
	}
	memcpy(s->carry + s->carried, piece.p, piece.len);
	s->carried += piece.len;
}

void cri_log_feed(struct cri_log *log, struct cri_log_stream *s, struct str bytes, int64_t wall_ns)
{
	struct batch b;

	if (log->fd < 0 || !bytes.len)
		return;
	batch_begin(&b, log, s->name, wall_ns);
	while (bytes.len) {
		size_t room = CRI_LOG_LINE_MAX - s->carried;
		size_t look = MIN(bytes.len, room + 1); /* the newline may follow a line of full length */
		const char *nl = memchr(bytes.p, '\n', look);
		struct str piece = { bytes.p, nl ? (size_t)(nl - bytes.p) + 1 : MIN(bytes.len, room) };

		if (nl)
			batch_line(&b, s, b.full, piece, true);
		else if (look > room)
			batch_line(&b, s, b.partial, piece, false);
		else
			carry_add(&b, s, piece);
		bytes.p += piece.len;
		bytes.len -= piece.len;
	}
	batch_write(&b);
	if (!s->carried)
		carry_free(s);
}

void cri_log_flush(struct cri_log *log, struct cri_log_stream *s, int64_t wall_ns)
{
	struct batch b;

	if (s->carried && log->fd >= 0) {
		batch_begin(&b, log, s->name, wall_ns);
		batch_line(&b, s, b.partial, (struct str){ "", 0 }, false);
	}
	carry_free(s);
}

void cri_log_reopen(struct cri_log *log, int fd)
{
	fd_close(&log->fd);
	log->fd = fd;
}

void cri_log_close(struct cri_log *log)
{
	fd_close(&log->fd);
}
