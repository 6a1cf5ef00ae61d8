/* A doubly linked list through a member of its elements. A head points to itself while empty. */
#ifndef KNARR_BASE_LIST_H
#define KNARR_BASE_LIST_H

#include "base/base.h"

struct list {
	struct list *prev, *next;
};

#define LIST_INIT(head) { &(head), &(head) }

static inline void list_init(struct list *head)
{
	head->prev = head->next = head;
}

static inline bool list_is_empty(const struct list *head)
{
	return head->next == head;
}

static inline void list_add_before(struct list *at, struct list *item)
{
	item->prev = at->prev;
	item->next = at;
	at->prev->next = item;
	at->prev = item;
}

/* At the end of the list. */
static inline void list_add(struct list *head, struct list *item)
{
	list_add_before(head, item);
}

/* Taken out, and on no list; harmless on an item that is on none. */
static inline void list_del(struct list *item)
{
	item->prev->next = item->next;
	item->next->prev = item->prev;
	list_init(item);
}

#define list_for_each(pos, head, type, member)                                        \
	for (type *pos = container_of((head)->next, type, member);                    \
	     &pos->member != (head); pos = container_of(pos->member.next, type, member))

/* The same, while `pos` may be taken out. */
#define list_for_each_safe(pos, head, type, member)                                   \
	for (type *pos = container_of((head)->next, type, member),                    \
	     *pos##_next = container_of(pos->member.next, type, member);              \
	     &pos->member != (head);                                                  \
	     pos = pos##_next, pos##_next = container_of(pos->member.next, type, member))

#endif
