package smtpclient

import (
	"strings"

	"behalf/mail"
)

// rule says what a reply means. Every field that is set must fit; an empty one
// fits anything. The first rule of the table that fits wins.
type rule struct {
	peer  peers
	at    point
	codes string // reply codes or their first digits, e.g. "4 550"
	codeX string // enhanced codes, e.g. "x.1.1 5.7.2*"
	text  []string
	not   []string
	is    outcome
}

type peers uint8

const (
	smart     peers = 1 << SmartHost
	exchanger peers = 1 << Exchanger
	both            = smart | exchanger
)

func (r *rule) fits(s situation, code int, e mail.Enhanced, text string) bool {
	return r.peer&(1<<s.Peer) != 0 && r.at&s.At != 0 && fitsCode(r.codes, code) && fitsEnhanced(r.codeX, e) &&
		(r.text == nil || containsAny(text, r.text)) && !containsAny(text, r.not)
}

func containsAny(text string, words []string) bool {
	for _, w := range words {
		if strings.Contains(text, w) {
			return true
		}
	}
	return false
}

func fitsCode(list string, code int) bool {
	if list == "" {
		return true
	}
	digits := string([]byte{byte('0' + code/100), byte('0' + code/10%10), byte('0' + code%10)})
	for c := range strings.FieldsSeq(list) {
		if strings.HasPrefix(digits, c) {
			return true
		}
	}
	return false
}

// fitsEnhanced compares with patterns in which x is any class and a final *
// any end.
func fitsEnhanced(list string, e mail.Enhanced) bool {
	if list == "" {
		return true
	}
	if e.IsZero() {
		return false
	}
	s := e.String()
	for p := range strings.FieldsSeq(list) {
		have := s
		if strings.HasPrefix(p, "x") {
			p, have = p[1:], have[1:]
		}
		if stem, ok := strings.CutSuffix(p, "*"); ok && strings.HasPrefix(have, stem) || p == have {
			return true
		}
	}
	return false
}

// The words by which servers are known to say what their codes do not.
var (
	wordsLimit = []string{"sending limit", "sending quota", "sending rate", "send limit", "daily limit", "daily message quota", "daily user sending",
		"daily quota", "hourly limit", "too many messages", "too many emails", "too many mails", "message rate", "rate limit", "ratelimit", "rate-limit",
		"messages per", "limit on the number", "maximum number of messages", "throttl", "sent too many", "exceeded the maximum number"}
	wordsBusy   = []string{"too many connections", "too many concurrent", "concurrent connections", "connection limit", "connections from", "too many sessions"}
	wordsLogin  = []string{"authentication required", "must authenticate", "not authenticated", "authenticate first", "need to authenticate", "authentication needed", "log in first", "login required", "client was not authenticated"}
	wordsPaused = []string{"sending paused", "sending is paused", "account is under review"}
	wordsLocked = []string{"account suspended", "account is suspended", "account has been suspended", "account disabled", "account is disabled",
		"account has been disabled", "account locked", "account is locked", "account blocked", "account is blocked", "account has been blocked", "sending paused", "account is under review"}
	wordsSender = []string{"sender address rejected", "not owned by", "sendasdenied", "send as denied", "not allowed to send", "not permitted to send",
		"not authorized to send", "not authorised to send", "not allowed to use", "sender not allowed", "sender is not allowed", "sender denied", "sender rejected",
		"sender address is not", "from address", "unverified sender", "not verified", "unverified address", "sender mismatch", "does not match the authenticated",
		"sender verify", "sender not authorized", "invalid sender", "mail from command failed"}
	wordsRelay  = []string{"relay access denied", "relaying denied", "relay denied", "unable to relay", "relay not permitted", "relaying not", "not permitted to relay", "relay prohibited", "not a relay", "no relay", "we do not relay"}
	wordsNobody = []string{"user unknown", "unknown user", "no such user", "unknown recipient", "recipient unknown", "no such recipient", "recipient not found",
		"no such mailbox", "mailbox not found", "mailbox does not exist", "user does not exist", "recipient does not exist", "address does not exist",
		"account does not exist", "account that you tried to reach does not exist", "user not found", "no mailbox here", "no mailbox by that name",
		"invalid mailbox", "unknown mailbox", "unknown or illegal alias", "unknown local part", "not a valid mailbox", "does not have a mailbox",
		"doesn't have an account", "does not have an account", "user doesn't exist", "unrouteable address", "recipientnotfound", "no longer valid",
		"no longer in use", "mailbox is inactive", "account is inactive", "account is disabled", "account has been disabled", "mailbox disabled", "account has been deactivated", "mailbox is disabled"}
	wordsFull = []string{"mailbox full", "mailbox is full", "mailbox quota", "over quota", "overquota", "over its quota", "quota exceeded", "quota is exceeded",
		"exceeded storage", "exceeded its quota", "exceeded his/her quota", "out of storage", "storage allocation", "inbox is full", "insufficient mailbox"}
	wordsLarge = []string{"too large", "too big", "size exceeds", "message size", "exceeds size", "exceeds the size", "exceeds maximum", "size limit", "maximum size"}
	wordsGrey  = []string{"greylist", "graylist", "grey list", "gray list", "grey-list", "greylisted"}
	wordsList  = []string{"spamhaus", "spamcop", "barracudacentral", "blocklist", "block list", "blacklist", "black list", "denylist", "dnsbl", " rbl",
		"reputation", "is listed", "listed in", "listed at", "listed by", "blocked using", "client host", "your ip", "ip address", "sending ip", "originating ip", "access denied"}
	wordsPTR     = []string{"reverse dns", "ptr record", "reverse hostname", "reverse lookup"}
	wordsAuthent = []string{"dmarc", "unauthenticated", "not authenticated", "spf check", "spf fail", "failed spf", "dkim", "authentication checks", "sender policy framework"}
	wordsSpam    = []string{"spam", "virus", "malware", "phish", "unsolicited", "message content", "content rejected", "content reject", "prohibited content", "banned attachment",
		"blocked attachment", "attachment type", "file type", "executable", "looks like", "suspicious", "security reasons", "malicious"}
	wordsLoop    = []string{"too many hops", "hop count", "mail loop", "mail forwarding loop", "loops back", "loop detected", "routing loop"}
	wordsTLS     = []string{"starttls", "must issue a start", "tls required", "encryption required", "requires tls", "without encryption", "requires encryption"}
	wordsSession = []string{"too many recipients", "too many rcpt", "recipient limit", "number of recipients"}
)

// ofMailbox are the enhanced codes that speak of a recipient's mailbox. 5.1.0 and
// 5.2.0 are none: servers give them for senders and accounts as well.
const ofMailbox = "x.1.1 x.1.2 x.1.3 x.1.4 x.1.5 x.1.6 x.1.10 4.1.0 4.1.9 4.2.* x.2.1 x.2.2 x.2.3 x.2.4"

// rules in order. Those of a smart host come first: there the same words are
// about the account, not about the recipient's site.
var rules = []rule{
	// TLS wanted. A 530 without it would read as a wish for a log-in.
	{peer: smart, at: anywhere, codeX: "x.7.10", is: outcome{mail.ReasonTLS, mail.OfRoute, true}},
	{peer: smart, at: anywhere, codes: "530 538 451 554 550", text: wordsTLS, is: outcome{mail.ReasonTLS, mail.OfRoute, true}},
	{peer: exchanger, at: anywhere, codeX: "x.7.10", is: outcome{mail.ReasonTLS, mail.OfDestination, true}},
	{peer: exchanger, at: anywhere, codes: "530 538 451 554 550", text: wordsTLS, is: outcome{mail.ReasonTLS, mail.OfDestination, true}},

	// The account. That its log-in is no good stops all mail through it, so this
	// is concluded only where no recipient and no content can be what is meant.
	{peer: smart, at: atStart | atAuth | atMail, text: wordsLocked, is: outcome{mail.ReasonAuth, mail.OfRoute, false}},
	{peer: smart, at: atContent, text: wordsPaused, is: outcome{mail.ReasonRejected, mail.OfRoute, false}},
	{peer: smart, at: anywhere, text: wordsBusy, is: outcome{mail.ReasonRate, mail.OfRoute, true}},
	{peer: smart, at: anywhere, codeX: "5.4.5 x.7.28", is: outcome{mail.ReasonRate, mail.OfRoute, true}},
	{peer: smart, at: anywhere, text: wordsLimit, is: outcome{mail.ReasonRate, mail.OfRoute, true}},
	{peer: smart, at: atAuth, codes: "5", is: outcome{mail.ReasonAuth, mail.OfRoute, false}},
	{peer: smart, at: atStart | atAuth, codes: "4", is: outcome{mail.ReasonRate, mail.OfRoute, true}},
	{peer: smart, at: atStart | atMail, codes: "530 534 535 538", is: outcome{mail.ReasonAuth, mail.OfRoute, false}},
	{peer: smart, at: atRcpt | atData, codes: "530 535", is: outcome{mail.ReasonAuth, mail.OfRoute, false}},
	{peer: smart, at: atFinal, codes: "530 535", is: outcome{mail.ReasonRejected, mail.OfRoute, false}},
	{peer: smart, at: atStart | atMail, codes: "5", codeX: "x.7.8 x.7.9 x.7.57", is: outcome{mail.ReasonAuth, mail.OfRoute, false}},
	{peer: smart, at: atStart | atMail, codes: "5", text: wordsLogin, is: outcome{mail.ReasonAuth, mail.OfRoute, false}},
	{peer: smart, at: atRcpt | atData, codes: "5", codeX: "x.7.8 x.7.57", is: outcome{mail.ReasonRejected, mail.OfRoute, false}},
	{peer: smart, at: atRcpt | atData, codes: "5", text: wordsLogin, is: outcome{mail.ReasonRejected, mail.OfRoute, false}},
	{peer: smart, at: anywhere, codes: "5", codeX: "x.7.60 x.1.7 x.1.8 x.7.27", is: outcome{mail.ReasonSenderRefused, mail.OfRoute, false}},
	{peer: smart, at: anywhere, codes: "5", text: wordsSender, is: outcome{mail.ReasonSenderRefused, mail.OfRoute, false}},
	{peer: smart, at: atMail, codes: "553", is: outcome{mail.ReasonSenderRefused, mail.OfRoute, false}},
	{peer: smart, at: anywhere, codes: "5", text: wordsRelay, is: outcome{mail.ReasonRejected, mail.OfRoute, false}},
	{peer: smart, at: atMail | atData, codes: "4", codeX: "x.7.*", is: outcome{mail.ReasonRate, mail.OfRoute, true}},
	// It cannot work now, and no destination was asked yet.
	{peer: smart, at: atMail | atData, codes: "4", is: outcome{mail.ReasonTemporary, mail.OfRoute, true}},
	{peer: smart, at: atMail, codes: "500 502 503 504 555", is: outcome{mail.ReasonProtocol, mail.OfRoute, true}},

	// What the hop lacks.
	{peer: both, at: anywhere, codes: "5", codeX: "x.6.7 x.7.30 x.6.3 x.6.9", is: outcome{mail.ReasonCannotCarry, mail.OfMessage, false}},
	// The mailbox is full, or the message too large.
	{peer: both, at: atRcpt | atContent, codeX: "x.2.2", is: outcome{mail.ReasonMailboxFull, mail.OfRecipient, false}},
	{peer: both, at: anywhere, codeX: "x.3.4 x.2.3", is: outcome{mail.ReasonTooLarge, mail.OfMessage, false}},
	{peer: both, at: atRcpt | atContent, text: wordsFull, is: outcome{mail.ReasonMailboxFull, mail.OfRecipient, false}},
	{peer: both, at: atMail | atContent, codes: "552", is: outcome{mail.ReasonTooLarge, mail.OfMessage, false}},
	{peer: both, at: atMail | atContent, codes: "5", text: wordsLarge, is: outcome{mail.ReasonTooLarge, mail.OfMessage, false}},
	{peer: both, at: atRcpt, codes: "552", is: outcome{mail.ReasonMailboxFull, mail.OfRecipient, false}},
	// It goes round.
	{peer: both, at: anywhere, codes: "5", codeX: "x.4.6 x.4.14", is: outcome{mail.ReasonLoop, mail.OfMessage, false}},
	{peer: both, at: anywhere, codes: "5", text: wordsLoop, is: outcome{mail.ReasonLoop, mail.OfMessage, false}},
	// Nobody there.
	{peer: both, at: atRcpt | atFinal, codes: "5", codeX: "x.1.2 x.1.10", is: outcome{mail.ReasonNoDomain, mail.OfRecipient, false}},
	{peer: smart, at: atRcpt | atFinal, codes: "5", codeX: "x.1.1 x.1.6", is: outcome{mail.ReasonNoMailbox, mail.OfRecipient, false}},
	{peer: exchanger, at: atRcpt | atFinal, codes: "5", codeX: "x.1.1 x.1.6", not: wordsList, is: outcome{mail.ReasonNoMailbox, mail.OfRecipient, false}},
	{peer: both, at: atRcpt, codes: "550", codeX: "5.4.1", text: []string{"recipient address rejected: access denied"}, is: outcome{mail.ReasonNoMailbox, mail.OfRecipient, false}},
	{peer: both, at: atRcpt | atFinal, codes: "550 551 553 554", codeX: "x.2.1 x.1.0 x.5.0 x.0.0 x.1.3", text: wordsNobody, is: outcome{mail.ReasonNoMailbox, mail.OfRecipient, false}},
	{peer: both, at: atRcpt | atFinal, codes: "4", codeX: "x.1.*", is: outcome{mail.ReasonTemporary, mail.OfRecipient, false}},
	{peer: both, at: atRcpt, codes: "450", text: wordsNobody, is: outcome{mail.ReasonTemporary, mail.OfRecipient, false}},
	// The site is busy, or wants us slower.
	{peer: both, at: anywhere, codes: "4", codeX: "x.2.2 x.3.1", is: outcome{mail.ReasonTemporary, mail.OfDestination, false}},
	{peer: both, at: anywhere, codes: "4", codeX: "x.7.*", is: outcome{mail.ReasonRate, mail.OfDestination, true}},
	{peer: both, at: anywhere, text: wordsGrey, is: outcome{mail.ReasonRate, mail.OfDestination, true}},
	{peer: both, at: anywhere, text: wordsBusy, is: outcome{mail.ReasonRate, mail.OfDestination, true}},
	{peer: both, at: anywhere, codes: "4", text: wordsLimit, is: outcome{mail.ReasonRate, mail.OfDestination, true}},
	{peer: both, at: anywhere, codes: "4", text: wordsSession, is: outcome{mail.ReasonRate, mail.OfDestination, true}},
	{peer: both, at: anywhere, codes: "4", text: wordsList, is: outcome{mail.ReasonRate, mail.OfDestination, true}},
	{peer: both, at: anywhere, codes: "4", codeX: "x.2.1", is: outcome{mail.ReasonRate, mail.OfDestination, true}},
	{peer: both, at: anywhere, codes: "421", is: outcome{mail.ReasonRate, mail.OfDestination, true}},
	// What stands in the way of a greeting is never said of a message.
	{peer: exchanger, at: atStart, codes: "5", text: wordsList, is: outcome{mail.ReasonBlocked, mail.OfDestination, true}},
	// Not authentic, blocked, or not liked.
	{peer: both, at: atMail | atRcpt | atContent, codes: "5", codeX: "5.7.20 5.7.21 5.7.22 5.7.23 5.7.24 5.7.26 5.7.29", is: outcome{mail.ReasonUnauthentic, mail.OfMessage, false}},
	{peer: both, at: atMail | atRcpt | atContent, codes: "5", codeX: "5.7.*", text: wordsAuthent, is: outcome{mail.ReasonUnauthentic, mail.OfMessage, false}},
	{peer: exchanger, at: atMail | atRcpt | atContent, codes: "5", codeX: "5.7.25", is: outcome{mail.ReasonBlocked, mail.OfDestination, false}},
	{peer: exchanger, at: atMail | atRcpt | atContent, codes: "5", text: wordsPTR, is: outcome{mail.ReasonBlocked, mail.OfDestination, false}},
	{peer: both, at: atMail | atRcpt | atContent, codes: "5", codeX: "x.1.7 x.1.8 x.7.27", is: outcome{mail.ReasonSenderRefused, mail.OfMessage, false}},
	{peer: exchanger, at: atRcpt, codes: "5", text: wordsRelay, is: outcome{mail.ReasonRejected, mail.OfRecipient, false}},
	{peer: exchanger, at: atMail | atRcpt | atContent, codes: "5", text: wordsList, is: outcome{mail.ReasonBlocked, mail.OfDestination, false}},
	{peer: both, at: atRcpt | atContent, codes: "5", text: wordsSpam, is: outcome{mail.ReasonContent, mail.OfMessage, false}},
	{peer: exchanger, at: atMail, codes: "5", codeX: "5.7.*", is: outcome{mail.ReasonBlocked, mail.OfDestination, false}},
	{peer: both, at: atContent, codes: "554", codeX: "5.7.1", is: outcome{mail.ReasonContent, mail.OfMessage, false}},
	{peer: both, at: atContent, codes: "5", codeX: "5.6.*", is: outcome{mail.ReasonContent, mail.OfMessage, false}},
	// No code, but the text is clear.
	{peer: both, at: atRcpt | atFinal, codes: "550 551 553 554", text: wordsNobody, is: outcome{mail.ReasonNoMailbox, mail.OfRecipient, false}},
	// The servers did not understand each other: never a verdict on the message.
	{peer: both, at: anywhere, codes: "500 502 503 504 555", is: outcome{mail.ReasonProtocol, mail.OfDestination, true}},
	{peer: both, at: anywhere, codes: "5", codeX: "5.5.1 5.5.2 5.5.4", is: outcome{mail.ReasonProtocol, mail.OfDestination, true}},
}
