/* A plugin's connection: a thread that reads, a thread that lives its life (join.c), and whoever asks it. */
#include "nri/parts.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "wire/rpc.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

enum { READ_SIZE = 16 << 10, OUT_MAX = 2 * (TTRPC_MESSAGE_MAX + 1024), UPDATES_MAX = 64 };

#define RUNTIME_SERVICE "nri.pkg.api.v1alpha1.Runtime"
#define PLUGIN_SERVICE "nri.pkg.api.v1alpha1.Plugin"

struct plugin *plugin_ref(struct plugin *p)
{
	atomic_fetch_add(&p->refs, 1);
	return p;
}

void plugin_unref(struct plugin *p)
{
	if (atomic_fetch_sub(&p->refs, 1) != 1)
		return;
	list_for_each_safe(u, &p->updates, struct plugin_update, item) {
		buf_free(&u->payload);
		mem_free(u);
	}
	fd_close(&p->fd);
	fd_close(&p->proc.pidfd);
	buf_free(&p->answer);
	ttrpc_reader_free(&p->reader);
	mem_free(p->name);
	mem_free(p->idx);
	mem_free(p->title);
	mem_free(p->config);
	cond_destroy(&p->changed);
	lock_destroy(&p->lock);
	mem_free(p);
}

bool plugin_is_closed(struct plugin *p)
{
	LOCKED(&p->lock);

	return p->closed;
}

void plugin_close(struct plugin *p, const char *why)
{
	const char *title;
	struct err e;

	lock_acquire(&p->lock);
	title = p->title ? p->title : "unregistered";
	if (p->closed) {
		lock_release(&p->lock);
		return;
	}
	p->closed = true;
	(void)shutdown(p->fd, SHUT_RDWR);
	if (p->proc.pidfd >= 0)
		(void)proc_signal(p->proc.pidfd, SIGKILL, &e);
	cond_broadcast(&p->changed);
	lock_release(&p->lock);
	log_info("NRI plugin is gone plugin=%s: %s", title, why);
	lock_acquire(&p->nri->lock);
	if (p->heard) {
		p->heard = false;
		p->nri->active--;
		list_del(&p->in_plugins);
		lock_release(&p->nri->lock);
		plugin_unref(p);
		return;
	}
	lock_release(&p->nri->lock);
}

/* --- out --------------------------------------------------------------------------------------------------------- */

/* All of it, or ERR_TIMEOUT: a peer that does not read. */
static int write_all(int fd, const char *bytes, size_t n, int64_t until_ns, struct err *e)
{
	while (n > 0) {
		ssize_t sent = send(fd, bytes, n, MSG_NOSIGNAL | MSG_DONTWAIT);
		struct pollfd wait = { .fd = fd, .events = POLLOUT };
		int64_t left_ms = (until_ns - clock_mono_ns()) / NS_PER_MS + 1;

		if (sent > 0) {
			bytes += sent;
			n -= (size_t)sent;
		} else if (errno != EAGAIN && errno != EINTR) {
			return err_sys(e, errno, "write to the plugin");
		} else if (left_ms <= 0) {
			return err_set(e, ERR_TIMEOUT, "it does not read what it is sent");
		} else {
			(void)poll(&wait, 1, (int)left_ms);
		}
	}
	return 0;
}

static int plugin_write(struct plugin *p, const struct buf *b, int64_t until_ns, struct err *e)
{
	struct err ignored;
	int rc;

	lock_acquire(&p->lock);
	while (p->writing)
		(void)cond_wait(NULL, &p->changed, &p->lock, &ignored);
	p->writing = true;
	lock_release(&p->lock);
	rc = write_all(p->fd, b->p, b->len, until_ns, e);
	lock_acquire(&p->lock);
	p->writing = false;
	cond_broadcast(&p->changed);
	lock_release(&p->lock);
	return rc;
}

static void plugin_answer(struct plugin *p, uint32_t stream, const struct err *status, struct str payload)
{
	auto_buf out = BUF(OUT_MAX);
	struct err e;

	if (ttrpc_add_response(&out, stream, status, payload, &e) < 0 ||
	    plugin_write(p, &out, clock_mono_ns() + p->nri->settings.request_ns, &e) < 0)
		plugin_close(p, e.msg);
}

/* --- in ------------------------------------------------------------------------------------------------------------- */

static int check_name(const NRI_T(RegisterPluginRequest) *r, struct err *e)
{
	const char *idx = r->plugin_idx;

	if (!r->plugin_name[0] || strspn(r->plugin_name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.+-") !=
	    strlen(r->plugin_name) || strlen(r->plugin_name) > 255)
		return err_set(e, ERR_INVALID, "plugin name \"%.300s\" is not of letters, digits and _.+-", r->plugin_name);
	if (strlen(idx) != 2 || strspn(idx, "0123456789") != 2)
		return err_set(e, ERR_INVALID, "plugin index \"%.20s\" is not two digits", idx);
	return 0;
}

static int take_registration(struct plugin *p, const NRI_T(RegisterPluginRequest) *r, struct err *e)
{
	auto_arena a = { 0 };
	LOCKED(&p->lock);

	if (p->registered)
		return err_set(e, ERR_STATE, "plugin %s has registered already", p->title);
	if (!p->launched) {
		if (check_name(r, e) < 0)
			return -1;
		p->name = mem_strdup(r->plugin_name);
		p->idx = mem_strdup(r->plugin_idx);
		p->title = mem_strdup(arena_printf(&a, "%s-%s", r->plugin_idx, r->plugin_name));
	}
	p->registered = true;
	cond_broadcast(&p->changed);
	return 0;
}

static void on_register(struct plugin *p, uint32_t stream, struct str payload)
{
	auto_arena a = { 0 };
	ProtobufCMessage *m;
	struct err e = { 0 };

	if (rpc_unpack(&a, &NRI_D(register_plugin_request), payload, &m, &e) == 0)
		(void)take_registration(p, (NRI_T(RegisterPluginRequest) *)m, &e);
	plugin_answer(p, stream, &e, STR(""));
	if (e.kind != ERR_NONE)
		plugin_close(p, e.msg);
}

static void on_update(struct plugin *p, uint32_t stream, struct str payload)
{
	struct plugin_update *u = mem_new0(struct plugin_update);
	struct err e = { 0 };

	u->stream = stream;
	u->payload = BUF(TTRPC_MESSAGE_MAX);
	lock_acquire(&p->lock);
	if (p->nupdates >= UPDATES_MAX)
		(void)err_set(&e, ERR_EXHAUSTED, "%d updates of the plugin's wait already", UPDATES_MAX);
	else if (buf_add(&u->payload, payload.p, payload.len, &e) == 0) {
		list_add(&p->updates, &u->item);
		p->nupdates++;
		u = NULL;
		cond_broadcast(&p->changed);
	}
	lock_release(&p->lock);
	if (u) {
		buf_free(&u->payload);
		mem_free(u);
		plugin_answer(p, stream, &e, STR(""));
	}
}

static void on_request(void *ctx, uint32_t stream, struct str service, struct str method, struct str payload)
{
	struct plugin *p = ctx;
	struct err e;

	if (str_eqz(service, RUNTIME_SERVICE) && str_eqz(method, "RegisterPlugin")) {
		on_register(p, stream, payload);
		return;
	}
	if (str_eqz(service, RUNTIME_SERVICE) && str_eqz(method, "UpdateContainers")) {
		on_update(p, stream, payload);
		return;
	}
	(void)err_set(&e, ERR_UNIMPLEMENTED, "/%.*s/%.*s", (int)MIN(service.len, 200), service.p, (int)MIN(method.len, 200),
		      method.p);
	plugin_answer(p, stream, &e, STR(""));
}

static void on_response(void *ctx, uint32_t stream, int code, struct str message, struct str payload)
{
	struct plugin *p = ctx;
	LOCKED(&p->lock);

	/* Late, or made up: nobody waits for it. */
	if (!p->waits_for || stream != p->waits_for || p->answered)
		return;
	p->answered = true;
	err_clear(&p->answer_error);
	buf_clear(&p->answer);
	if (code)
		(void)err_set(&p->answer_error, err_kind_of_grpc(code), "%.*s", (int)MIN(message.len, 800), message.p);
	else if (buf_add(&p->answer, payload.p, payload.len, &p->answer_error) < 0)
		buf_clear(&p->answer);
	cond_broadcast(&p->changed);
}

static void thread_ended(struct plugin *p)
{
	struct nri *n = p->nri;

	lock_acquire(&n->lock);
	n->running--;
	cond_broadcast(&n->changed);
	lock_release(&n->lock);
	plugin_unref(p);
}

static void *read_thread(void *arg)
{
	struct plugin *p = arg;
	struct proc_exit x;
	char bytes[READ_SIZE];
	struct err e;
	ssize_t n;

	for (;;) {
		n = recv(p->fd, bytes, sizeof(bytes), 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n == 0)
			(void)err_set(&e, ERR_UNAVAILABLE, "it closed its connection");
		else if (n < 0)
			(void)err_sys(&e, errno, "its connection");
		else if (ttrpc_input(&p->reader, bytes, (size_t)n, &e) == 0)
			continue;
		break;
	}
	plugin_close(p, e.msg);
	if (p->proc.pidfd >= 0) /* killed by the close */
		(void)proc_wait(NULL, &p->proc, &x, &e);
	thread_ended(p);
	return NULL;
}

/* --- questions ----------------------------------------------------------------------------------------------------------- */

void plugin_turn_take(struct plugin *p)
{
	LOCKED(&p->lock);
	struct err e;

	while (p->turn)
		(void)cond_wait(NULL, &p->changed, &p->lock, &e);
	p->turn = true;
}

void plugin_turn_give(struct plugin *p)
{
	LOCKED(&p->lock);

	p->turn = false;
	cond_broadcast(&p->changed);
}

/* 0: answered; 1: it is gone or too late. */
static int wait_answer(struct plugin *p, int64_t until_ns)
{
	LOCKED(&p->lock);
	struct err e;

	while (!p->answered && !p->closed && clock_mono_ns() < until_ns)
		(void)cond_wait_until(NULL, &p->changed, &p->lock, until_ns, &e);
	p->waits_for = 0;
	return p->answered ? 0 : 1;
}

static int begin_question(struct plugin *p, uint32_t *stream)
{
	LOCKED(&p->lock);

	if (p->closed)
		return 1;
	*stream = p->next_stream;
	p->next_stream += 2;
	p->waits_for = *stream;
	p->answered = false;
	return 0;
}

static int pack(struct arena *a, ProtobufCMessage *m, struct str *out, struct err *e)
{
	size_t size;

	rpc_message_clean(a, m);
	size = protobuf_c_message_get_packed_size(m);
	if (size > TTRPC_MESSAGE_MAX)
		return err_set(e, ERR_EXHAUSTED, "a message of %zu bytes", size);
	char *bytes = arena_alloc(a, size + 1);

	*out = (struct str){ bytes, protobuf_c_message_pack(m, (uint8_t *)bytes) };
	return 0;
}

/* No answer: the plugin's own policy says what that means. */
static int unanswered(struct plugin *p, const struct plugin_question *q, const char *why, bool late, struct err *e)
{
	if (!late || !p->keep_connected)
		plugin_close(p, why);
	if (p->fail_request)
		return err_set(e, ERR_UNAVAILABLE, "NRI plugin %s: %s: %s", p->title, q->method, why);
	log_warn("a request goes on without an NRI plugin plugin=%s method=%s: %s", p->title, q->method, why);
	return 1;
}

int plugin_ask(struct plugin *p, struct arena *a, const struct plugin_question *q, ProtobufCMessage **out,
	       struct err *e)
{
	int64_t until = clock_mono_ns() + p->nri->settings.request_ns;
	struct ttrpc_request r = { .service = PLUGIN_SERVICE, .method = q->method,
				   .timeout_ns = p->nri->settings.request_ns };
	auto_buf b = BUF(OUT_MAX);

	if (pack(a, q->request, &r.payload, e) < 0)
		return err_in(e, "NRI plugin %s: %s", p->title, q->method);
	if (begin_question(p, &r.stream))
		return 1;
	if (ttrpc_add_request(&b, &r, e) < 0)
		return err_in(e, "NRI plugin %s", p->title);
	if (plugin_write(p, &b, until, e) < 0)
		return unanswered(p, q, arena_strdup(a, e->msg), false, e);
	if (wait_answer(p, until))
		return unanswered(p, q, plugin_is_closed(p) ? "its connection was lost" :
				  arena_printf(a, "no answer within %lld ms",
					       (long long)(p->nri->settings.request_ns / NS_PER_MS)), true, e);
	if (p->answer_error.kind != ERR_NONE) {
		*e = p->answer_error;
		return err_in(e, "NRI plugin %s: %s", p->title, q->method);
	}
	if (rpc_unpack(a, q->answer, (struct str){ arena_strndup(a, buf_text(&p->answer), p->answer.len), p->answer.len },
		       out, e) < 0)
		return unanswered(p, q, arena_strdup(a, e->msg), false, e);
	return 0;
}

/* --- the threads --------------------------------------------------------------------------------------------------------- */

static void serve_update(struct plugin *p, struct plugin_update *u)
{
	auto_arena a = { 0 };
	ProtobufCMessage *m;
	NRI_T(UpdateContainersResponse) *answer = NRI_NEW(&a, update_containers_response);
	struct updates failed = { 0, NULL };
	struct str payload = { "", 0 };
	struct err e = { 0 };

	if (rpc_unpack(&a, &NRI_D(update_containers_request), buf_str(&u->payload), &m, &e) == 0) {
		const NRI_T(UpdateContainersRequest) *r = (NRI_T(UpdateContainersRequest) *)m;
		const struct updates wished = { r->n_update, r->update };

		if (r->n_evict > 0)
			(void)err_set(&e, ERR_UNIMPLEMENTED, "eviction of container %s: knarrd has no evictions",
				      r->evict[0]->container_id);
		else
			(void)nri_update_others(p, &a, &wished, &failed, &e);
		answer->n_failed = failed.n;
		answer->failed = failed.v;
		if (e.kind == ERR_NONE)
			(void)pack(&a, &answer->base, &payload, &e);
	}
	plugin_answer(p, u->stream, &e, payload);
}

static struct plugin_update *next_update(struct plugin *p)
{
	LOCKED(&p->lock);
	struct plugin_update *u;
	struct err e;

	while (list_is_empty(&p->updates) && !p->closed)
		(void)cond_wait(NULL, &p->changed, &p->lock, &e);
	if (p->closed)
		return NULL;
	u = container_of(p->updates.next, struct plugin_update, item);
	list_del(&u->item);
	p->nupdates--;
	return u;
}

static void *live_thread(void *arg)
{
	struct plugin *p = arg;
	struct plugin_update *u;

	plugin_live(p);
	while ((u = next_update(p))) {
		serve_update(p, u);
		buf_free(&u->payload);
		mem_free(u);
	}
	lock_acquire(&p->nri->lock);
	list_del(&p->in_all);
	lock_release(&p->nri->lock);
	thread_ended(p);
	return NULL;
}

static int threads_start(struct plugin *p, struct err *e)
{
	struct nri *n = p->nri;
	pthread_t thread;

	lock_acquire(&n->lock);
	n->running += 2;
	list_add(&n->all, &p->in_all);
	lock_release(&n->lock);
	(void)plugin_ref(p);
	if (thread_start(&thread, "nri-read", read_thread, plugin_ref(p), e) < 0) {
		thread_ended(p);
	} else {
		(void)pthread_detach(thread);
		if (thread_start(&thread, "nri-plugin", live_thread, p, e) == 0)
			return pthread_detach(thread), 0;
		plugin_close(p, e->msg);
	}
	lock_acquire(&n->lock);
	list_del(&p->in_all);
	lock_release(&n->lock);
	thread_ended(p);
	return -1;
}

int plugin_start(struct nri *n, const struct plugin_start *s, struct err *e)
{
	static const struct ttrpc_events events = { on_request, on_response };
	struct plugin *p = mem_new0(struct plugin);
	auto_arena a = { 0 };
	int rc;

	atomic_init(&p->refs, 1);
	p->nri = n;
	p->fd = s->fd;
	p->proc = s->proc;
	p->next_stream = 1;
	p->answer = BUF(TTRPC_MESSAGE_MAX);
	list_init(&p->in_plugins);
	list_init(&p->in_all);
	list_init(&p->updates);
	lock_init(&p->lock);
	cond_init(&p->changed);
	ttrpc_reader_init(&p->reader, &events, p);
	if (s->name) {
		p->launched = true;
		p->name = mem_strdup(s->name);
		p->idx = mem_strdup(s->idx);
		p->title = mem_strdup(arena_printf(&a, "%s-%s", s->idx, s->name));
		p->config = mem_strdup(s->config);
	}
	rc = threads_start(p, e);
	plugin_unref(p);
	return rc;
}
