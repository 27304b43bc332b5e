# What must arrive takes the tenant's own connection "dedicated" first, and if
# that cannot be used our addresses, and then the smart host; the rest of the
# tenant's mail stays off the dedicated way, so that its reputation is kept.
# A way is left for the next after delivery.failover_after of trouble.
package behalf.submission.message

vip if input.stream == "vip"

vip if startswith(input.message.tag, "vip-")

route contains {"rule": "vip", "priority": 0, "use": ["connection:dedicated", "mx", "platform"]} if vip

route contains {"rule": "ordinary", "priority": 0, "use": ["mx", "platform"]} if not vip

tag contains {"rule": "vip", "value": "vip"} if vip
