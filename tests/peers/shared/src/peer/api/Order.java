/*
 * The nested POJO of the tests: long, int, boolean, double, String, null, enum, BigDecimal, Date, nested object,
 * list of objects (one of them shared, hence a back reference on the wire), map and bytes.
 * Compared by value, every field; must keep a default constructor and setters for the serializers.
 */
package peer.api;

import java.io.Serializable;
import java.math.BigDecimal;
import java.util.Arrays;
import java.util.Date;
import java.util.List;
import java.util.Map;
import java.util.Objects;

public class Order implements Serializable {
    private static final long serialVersionUID = 1L;
    private long id;
    private String name;
    private String remark;          // stays null
    private int count;
    private boolean vip;
    private double score;
    private Status status;
    private BigDecimal amount;
    private Date created;
    private Address address;
    private List<Address> others;
    private Map<String, Integer> tags;
    private byte[] blob;

    public long getId() { return id; }
    public void setId(long v) { id = v; }
    public String getName() { return name; }
    public void setName(String v) { name = v; }
    public String getRemark() { return remark; }
    public void setRemark(String v) { remark = v; }
    public int getCount() { return count; }
    public void setCount(int v) { count = v; }
    public boolean isVip() { return vip; }
    public void setVip(boolean v) { vip = v; }
    public double getScore() { return score; }
    public void setScore(double v) { score = v; }
    public Status getStatus() { return status; }
    public void setStatus(Status v) { status = v; }
    public BigDecimal getAmount() { return amount; }
    public void setAmount(BigDecimal v) { amount = v; }
    public Date getCreated() { return created; }
    public void setCreated(Date v) { created = v; }
    public Address getAddress() { return address; }
    public void setAddress(Address v) { address = v; }
    public List<Address> getOthers() { return others; }
    public void setOthers(List<Address> v) { others = v; }
    public Map<String, Integer> getTags() { return tags; }
    public void setTags(Map<String, Integer> v) { tags = v; }
    public byte[] getBlob() { return blob; }
    public void setBlob(byte[] v) { blob = v; }

    private List<Object> fields() {
        return Arrays.<Object>asList(id, name, remark, count, vip, score, status, amount, created, address, others, tags,
            blob == null ? null : Arrays.toString(blob));
    }

    @Override public boolean equals(Object other) {
        return other instanceof Order && fields().equals(((Order) other).fields());
    }

    @Override public int hashCode() { return Objects.hash(id, name); }

    @Override public String toString() {
        return "Order{id=" + id + ", name=" + name + ", remark=" + remark + ", count=" + count + ", vip=" + vip
            + ", score=" + score + ", status=" + status + ", amount=" + amount
            + ", created=" + (created == null ? null : created.getTime()) + ", address=" + address
            + ", others=" + others + ", tags=" + tags + ", blob=" + (blob == null ? null : blob.length + "B") + "}";
    }
}
