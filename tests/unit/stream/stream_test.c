/* The streaming server over sessions that are played: an exec's stdin is its stdout. Its client here is a WebSocket by
 * hand; client-go's own are in tests/system/stream. */
#include "test.h"

#include "base/fd.h"
#include "stream/stream.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

static atomic_int nbegun, nended, exit_code, played_control = -1;

int session_exec(UNUSED struct pods *ps, UNUSED struct call *c, const struct session_wish *w, struct session *out,
		 struct err *e)
{
	int control = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	if (streq(w->argv[0], "missing"))
		return (void)close(control), err_set(e, ERR_NOT_FOUND, "exec: no program missing");
	if (fd_pipe(&out->out, &out->in, e) < 0 || fd_set_nonblocking(out->out, e) < 0 || fd_set_nonblocking(out->in, e) < 0)
		return -1;
	out->control = control;
	played_control = control;
	nbegun++;
	return 0;
}

int session_attach(UNUSED struct pods *ps, UNUSED struct call *c, UNUSED const struct session_wish *w,
		   UNUSED struct session *out, struct err *e)
{
	return err_set(e, ERR_STATE, "nothing to attach to");
}

int session_resize(UNUSED const struct session *s, UNUSED unsigned width, UNUSED unsigned height, UNUSED struct err *e)
{
	return 0;
}

void session_close_in(struct session *s)
{
	fd_close(&s->in);
	(void)eventfd_write(played_control, 1);
}

int session_result(UNUSED const struct session *s, int *code, UNUSED struct err *e)
{
	*code = exit_code;
	return 0;
}

void session_end(struct session *s)
{
	if (s->control >= 0)
		nended++;
	fd_close(&s->in);
	fd_close(&s->out);
	fd_close(&s->control);
}

int session_port(UNUSED struct pods *ps, UNUSED struct call *c, UNUSED enum pod_owner owner, UNUSED const char *pod_id,
		 uint16_t port, int *fd, struct err *e)
{
	int pair[2];

	if (port != 80)
		return err_set(e, ERR_UNAVAILABLE, "nobody listens at port %u", port);
	BUG_ON(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) < 0);
	(void)!write(pair[1], "hello", 5);
	fd_close(&pair[1]);
	*fd = pair[0];
	return 0;
}

/* --- a client ---------------------------------------------------------------------------------------- */

struct world {
	struct arena a;
	struct streams *s;
	struct err e;
	const char *url; /* the last one given out */
};

static void world_of(struct world *w, int64_t token_ns, int64_t idle_ns)
{
	const struct stream_settings settings = { .address = "127.0.0.1:0", .token_ns = token_ns, .idle_ns = idle_ns };

	*w = (struct world){ 0 };
	nbegun = nended = exit_code = 0;
	assert_ok(streams_open(&settings, NULL, &w->s, &w->e), w->e);
}

static void world_begin(struct world *w, int64_t token_ns)
{
	world_of(w, token_ns, INT64_C(3600000000000));
}

static void world_end(struct world *w)
{
	streams_close(w->s);
	arena_free(&w->a);
	assert_int_equal(nbegun, nended);
}

static const char *exec_url(struct world *w, const char *program)
{
	char *argv[] = { (char *)program, NULL };
	const struct session_wish wish = { .container = "c", .argv = argv, .in = true, .out = true };

	assert_ok(stream_exec_url(w->s, &w->a, &wish, &w->url, &w->e), w->e);
	return w->url;
}

static int dial(const char *url)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	unsigned port;

	assert_int_equal(sscanf(url, "http://127.0.0.1:%u/", &port), 1);
	to.sin_port = htons((uint16_t)port);
	assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
	return fd;
}

static void say(int fd, const void *bytes, size_t n)
{
	struct err e;

	assert_ok(fd_write_all(fd, bytes, n, &e), e);
}

static void ask_upgrade(struct world *w, int fd, const char *url, const char *protocol)
{
	const char *text = arena_printf(&w->a, "GET %s HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: %s\r\n\r\n",
		url, protocol);

	say(fd, text, strlen(text));
}

/* All that comes, to the end. */
static struct str hear(struct world *w, int fd)
{
	struct buf b = BUF(1 << 20);
	struct err e;
	struct str all;

	assert_ok(fd_read_to_end(fd, &b, &e), e);
	all = (struct str){ arena_memdup(&w->a, buf_text(&b), b.len + 1), b.len };
	buf_free(&b);
	return all;
}

static bool holds(struct str all, const void *part, size_t n)
{
	return memmem(all.p, all.len, part, n) != NULL;
}
#define assert_holds(all, literal) assert_true(holds(all, literal, sizeof(literal) - 1))

/* Masked with zeros; n below 126. */
static void say_frame(int fd, char opcode, const char *bytes, char n)
{
	const char head[] = { (char)(0x80 | opcode), (char)(0x80 | n), 0, 0, 0, 0 };

	say(fd, head, sizeof(head));
	say(fd, bytes, (size_t)n);
}

static void wait_for(atomic_int *value, int wanted)
{
	for (int i = 0; *value != wanted; i++) {
		assert_true(i < 3000);
		(void)poll(NULL, 0, 10);
	}
}

/* --- promises ---------------------------------------------------------------------------------------- */

TEST(exec_echoes_ends_its_stdin_and_tells_its_code)
{
	struct world w;
	const char *url;
	struct str all;
	int fd;

	world_begin(&w, INT64_C(60000000000));
	exit_code = 3;
	url = exec_url(&w, "cat");
	fd = dial(url);
	ask_upgrade(&w, fd, strchr(url + 7, '/'), "v5.channel.k8s.io, v4.channel.k8s.io");
	say_frame(fd, 2, "\0hello", 6);
	say_frame(fd, 2, "\xff\0", 2);
	wait_for(&nended, 1);
	say_frame(fd, 8, "\x03\xe8", 2);
	(void)shutdown(fd, SHUT_WR);
	all = hear(&w, fd);
	assert_holds(all, "HTTP/1.1 101 ");
	assert_holds(all, "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n");
	assert_holds(all, "Sec-WebSocket-Protocol: v5.channel.k8s.io\r\n");
	assert_holds(all, "\x82\6\1hello");
	assert_holds(all, "\"reason\":\"ExitCode\",\"message\":\"3\"");
	assert_holds(all, "\x88\2\3\xe8");
	fd_close(&fd);
	world_end(&w);
}

TEST(base64_channels_carry_text)
{
	struct world w;
	const char *url;
	struct str all;
	int fd;

	world_begin(&w, INT64_C(60000000000));
	url = exec_url(&w, "cat");
	fd = dial(url);
	ask_upgrade(&w, fd, strchr(url + 7, '/'), "base64.channel.k8s.io");
	say_frame(fd, 1, "0aGVsbG8=", 9);
	wait_for(&nbegun, 1);
	say_frame(fd, 1, "0a*", 3);
	(void)shutdown(fd, SHUT_WR);
	all = hear(&w, fd);
	assert_holds(all, "no base64");
	fd_close(&fd);
	wait_for(&nended, 1);
	world_end(&w);
}

TEST(an_exec_that_cannot_be_says_why)
{
	struct world w;
	const char *url;
	int fd;
	char got[4096];
	size_t n = 0;

	world_begin(&w, INT64_C(60000000000));
	url = exec_url(&w, "missing");
	fd = dial(url);
	ask_upgrade(&w, fd, strchr(url + 7, '/'), "v4.channel.k8s.io");
	while (n < sizeof(got) && !memmem(got, n, "no program missing", 18)) {
		ssize_t rc = read(fd, got + n, sizeof(got) - n);

		assert_true(rc > 0);
		n += (size_t)rc;
	}
	fd_close(&fd);
	world_end(&w);
}

TEST(a_client_that_vanishes_ends_its_exec)
{
	struct world w;
	const char *url;
	int fd;

	world_begin(&w, INT64_C(60000000000));
	url = exec_url(&w, "cat");
	fd = dial(url);
	ask_upgrade(&w, fd, strchr(url + 7, '/'), "v4.channel.k8s.io");
	wait_for(&nbegun, 1);
	fd_close(&fd);
	wait_for(&nended, 1);
	world_end(&w);
}

TEST(the_end_of_the_server_ends_its_sessions)
{
	struct world w;
	const char *url;
	int fd;

	world_begin(&w, INT64_C(60000000000));
	url = exec_url(&w, "cat");
	fd = dial(url);
	ask_upgrade(&w, fd, strchr(url + 7, '/'), "v4.channel.k8s.io");
	wait_for(&nbegun, 1);
	streams_close(w.s);
	w.s = NULL;
	assert_holds(hear(&w, fd), "\"status\":\"Failure\",\"message\":\"knarrd is being stopped");
	fd_close(&fd);
	world_end(&w);
}

TEST(an_idle_session_is_ended_and_told_why)
{
	struct world w;
	const char *url;
	int fd;

	world_of(&w, INT64_C(60000000000), 1);
	url = exec_url(&w, "cat");
	fd = dial(url);
	ask_upgrade(&w, fd, strchr(url + 7, '/'), "v4.channel.k8s.io");
	wait_for(&nbegun, 1);
	wait_for(&nended, 1);
	(void)shutdown(fd, SHUT_WR);
	assert_holds(hear(&w, fd), "\"status\":\"Failure\",\"message\":\"no data came or went for 0 s");
	fd_close(&fd);
	world_end(&w);
}

TEST(a_token_counts_once_of_its_kind_and_for_a_while)
{
	struct world w;
	const char *url, *path, *other;
	int fd;

	world_begin(&w, INT64_C(60000000000));
	url = exec_url(&w, "cat");
	path = strchr(url + 7, '/');
	other = arena_printf(&w.a, "/attach/%s", strrchr(url, '/') + 1);
	fd = dial(url);
	ask_upgrade(&w, fd, other, "v4.channel.k8s.io");
	assert_holds(hear(&w, fd), "HTTP/1.1 404 ");
	fd_close(&fd);
	fd = dial(url);
	ask_upgrade(&w, fd, path, "nonsense");
	assert_holds(hear(&w, fd), "HTTP/1.1 403 ");
	fd_close(&fd);
	fd = dial(url);
	ask_upgrade(&w, fd, path, "v4.channel.k8s.io");
	assert_holds(hear(&w, fd), "HTTP/1.1 404 ");
	fd_close(&fd);
	world_end(&w);

	world_begin(&w, 1);
	url = exec_url(&w, "cat");
	fd = dial(url);
	ask_upgrade(&w, fd, strchr(url + 7, '/'), "v4.channel.k8s.io");
	assert_holds(hear(&w, fd), "HTTP/1.1 404 ");
	fd_close(&fd);
	world_end(&w);
}

TEST(tokens_that_wait_are_counted)
{
	struct world w;
	const struct session_wish wish = { .container = "c", .out = true };
	const char *url;

	world_begin(&w, INT64_C(60000000000));
	for (int i = 0; i < STREAM_TOKENS_MAX; i++)
		assert_ok(stream_attach_url(w.s, &w.a, &wish, &url, &w.e), w.e);
	assert_err(stream_attach_url(w.s, &w.a, &wish, &url, &w.e), w.e, ERR_EXHAUSTED, "wait to be begun");
	world_end(&w);
}

TEST(ports_are_forwarded_over_websocket_channels)
{
	static const uint16_t ports[] = { 80, 81 };
	const struct stream_ports wish = { "p", ports, 2 };
	struct world w;
	const char *url;
	struct str all;
	int fd;

	world_begin(&w, INT64_C(60000000000));
	assert_ok(stream_port_url(w.s, &w.a, POD_OWNER_KUBELET, &wish, &url, &w.e), w.e);
	fd = dial(url);
	ask_upgrade(&w, fd, strchr(url + 7, '/'), "v4.channel.k8s.io");
	for (char got[4096], *end = NULL; !end;) { /* the server's close comes after all else */
		ssize_t n = recv(fd, got, sizeof(got), MSG_PEEK);

		assert_true(n > 0);
		end = memmem(got, (size_t)n, "\x88\2\3\xe8", 4);
	}
	say_frame(fd, 8, "\x03\xe8", 2);
	(void)shutdown(fd, SHUT_WR);
	all = hear(&w, fd);
	assert_holds(all, "\x82\3\0\x50\0");
	assert_holds(all, "\x82\3\1\x50\0");
	assert_holds(all, "\x82\3\2\x51\0");
	assert_holds(all, "\x82\6\0hello");
	assert_holds(all, "\3nobody listens at port 81");
	fd_close(&fd);
	world_end(&w);
}

TEST(settings_that_would_let_anyone_in_are_refused)
{
	static const struct { struct stream_settings s; const char *why; } rows[] = {
		{ { .address = "0.0.0.0:1" }, "clients can reach" },
		{ { .address = "10.0.0.1:1" }, "not loopback" },
		{ { .address = "10.0.0.1:1", .cert = "/c", .key = "/k" }, "not loopback" },
		{ { .address = "localhost:1" }, "no IP address" },
		{ { .address = "127.0.0.1" }, "no address with a port" },
		{ { .address = "127.0.0.1:65536" }, "no address with a port" },
		{ { .address = "[::1:1" }, "no address with a port" },
		{ { .address = "127.0.0.1:0", .cert = "/c" }, "come together" },
		{ { .address = "127.0.0.1:0", .client_ca = "/c" }, "no TLS" },
	};
	const struct stream_settings good[] = { { .address = "[::1]:0" }, { .address = "127.0.0.1:8443" },
						{ .address = "10.0.0.1:1", .cert = "/c", .key = "/k", .client_ca = "/a" } };
	struct err e;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		assert_err(stream_settings_check(&rows[i].s, &e), e, ERR_INVALID, rows[i].why);
	for (size_t i = 0; i < ARRAY_SIZE(good); i++)
		assert_ok(stream_settings_check(&good[i], &e), e);
}
